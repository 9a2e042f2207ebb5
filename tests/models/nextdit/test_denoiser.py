import torch
from diffusers.models.attention import LuminaFeedForward
from torch.testing import assert_close

from internnav_hf.models.nextdit.denoiser import NextDiTDenoiser
from tests.tiny.nextdit import tiny_config


def denoiser(gate: float = 1.0, **fields) -> NextDiTDenoiser:
    torch.manual_seed(0)
    model = NextDiTDenoiser(tiny_config(**fields)).eval()
    for layer in model.layers:
        torch.nn.init.constant_(layer.gate, gate)
    return model


def inputs():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 3, 5, 16, generator=generator)
    return hidden, torch.randn(2, 6, 32, generator=generator), torch.tensor([[900.0, 100.0]])


def test_samples_of_one_condition_do_not_see_each_other():
    model, (hidden, condition, times) = denoiser(), inputs()
    context = model.context(condition, times)
    alone = [model(hidden[:, [sample]], context) for sample in range(3)]
    assert_close(model(hidden, context), torch.cat(alone, dim=1))


def test_one_context_holds_all_diffusion_times():
    model, (hidden, condition, times) = denoiser(), inputs()
    both = model.context(condition, times)
    for step in (0, 1):
        single = model.context(condition, times[:, step : step + 1])
        assert_close(model(hidden, both, step), model(hidden, single))
    assert not model(hidden, both, 0).allclose(model(hidden, both, 1), atol=1e-4)


def test_shut_gates_leave_only_the_mean_of_the_condition():
    hidden, condition, times = inputs()
    shuffled = condition.flip(1)
    changed = condition.clone()
    changed[:, 0] += 1
    shut = denoiser(gate=0.0)
    context = shut.context(condition, times)
    assert not any(block.values.any() for block in context.blocks)
    assert_close(shut(hidden, context), shut(hidden, shut.context(shuffled, times)))
    for model in (shut, denoiser()):
        same, other = (model(hidden, model.context(c, times)) for c in (condition, changed))
        assert not same.allclose(other, atol=1e-4)


def test_nothing_is_copied_for_the_samples():
    model, (_, condition, times) = denoiser(), inputs()
    context = model.context(condition, times)
    assert context.blocks[0].keys.shape == (2, 2, 6, 8)
    assert context.blocks[0].modulation[0].shape == (2, 2, 1, 1, 16)


def test_the_feed_forward_is_as_wide_as_asked_for():
    model = denoiser(intermediate_size=1023)
    feed_forward = model.layers[0].feed_forward
    assert isinstance(feed_forward, LuminaFeedForward)
    assert feed_forward.linear_1.out_features == 1023
