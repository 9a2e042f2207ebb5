import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch.testing import assert_close

from benchmarks.nextdit import PlainLoop
from internnav_hf.models.nextdit.model import NextDiTActionExpert
from tests.tiny.nextdit import tiny


def make_batch(num_samples: int = 2, num_frames: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """The last sample has one valid frame fewer."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_samples, num_frames)
    mask = torch.ones(shape, dtype=torch.bool)
    mask[-1, -1] = False
    return {
        "plan": torch.randn(num_samples, 4, 12, generator=generator),
        "rgb": torch.randint(256, (*shape, 3, 28, 28), generator=generator, dtype=torch.uint8),
        "actions": torch.randn(*shape, 5, 3, generator=generator) / 4,
        "frame_mask": mask,
    }


def frozen_draws(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    times = torch.randint(1, 1001, batch["frame_mask"].shape, generator=generator)
    noise = torch.randn(batch["actions"].shape, generator=generator)
    return {**batch, "noise": noise, "timesteps": times.float()}


def rows(batch: dict[str, Tensor], chosen: slice) -> dict[str, Tensor]:
    return {key: value[chosen] for key, value in batch.items()}


@pytest.mark.parametrize("use_images", [True, False])
def test_dummy_inputs_run(use_images):
    model = tiny(use_images=use_images)
    assert model(**model.dummy_inputs).loss.isfinite()


def test_weights_start_as_torchs_do_and_cross_attention_shut():
    model = tiny(open_gates=False)
    bound = model.plan_projector[0].weight.shape[1] ** -0.5
    assert bound * 0.9 < model.plan_projector[0].weight.abs().max() <= bound
    assert not any(layer.gate.any() for layer in model.denoiser.layers)
    batch = make_batch()
    assert_close(model(**batch).loss.isfinite(), torch.tensor(True))
    assert 0.5 < model.memory.resampler.queries.std() < 1.5
    assert 0.5 < model.memory.encoder.positions.std() < 1.5


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    model = tiny()
    kept = {key: value for key, value in model.state_dict().items() if "memory" not in key}
    model.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(ValueError, match=r"lacks \d+ key\(s\): memory"):
        NextDiTActionExpert.from_pretrained(tmp_path)


@pytest.mark.parametrize("use_images", [True, False])
def test_round_trip(use_images, tmp_path):
    model, batch = tiny(use_images=use_images), make_batch()
    model.save_pretrained(tmp_path)
    again, info = NextDiTActionExpert.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert_close(again.eval()(**batch).loss, model(**batch).loss, rtol=0, atol=0)
    assert again.config.to_diff_dict().keys() == model.config.to_diff_dict().keys()


def test_loss_is_the_mean_over_valid_frames_of_the_velocity_error():
    model, batch = tiny(), frozen_draws(make_batch())
    output = model(**batch)
    errors = []
    for sample, frame in batch["frame_mask"].nonzero().tolist():
        one = rows(batch, slice(sample, sample + 1))
        pair = model.encode_views(one["rgb"][:, [0, frame]])
        target = one["actions"][:, frame] * torch.tensor([4.0, 4.0, 1.0])
        noise, time = one["noise"][:, frame], one["timesteps"][:, frame, None]
        context = model.denoiser.context(model.condition(one["plan"], pair), time)
        noisy = (1 - time / 1000) * target + time / 1000 * noise
        errors.append((model.velocity(noisy[:, None], context)[:, 0] - (noise - target)).square())
    assert_close(output.loss, torch.cat(errors).mean())
    assert_close(output.action_loss, output.loss)
    assert output.loss_counts["action_loss"] == 5


def test_padding_changes_nothing():
    model, batch = tiny(), make_batch()
    padded = dict(batch)
    for key in ("rgb", "actions"):
        padded[key] = torch.cat([batch[key], batch[key][:, -1:]], dim=1)
    padded["actions"][:, -1] = torch.nan
    padded["frame_mask"] = torch.nn.functional.pad(batch["frame_mask"], (0, 1))
    assert_close(model(**padded).loss, model(**batch).loss)


def test_two_halves_with_the_global_count_equal_the_whole_batch():
    model, batch = tiny(), frozen_draws(make_batch())
    model(**batch).loss.backward()
    whole = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    for half in (slice(0, 1), slice(1, 2)):
        model(**rows(batch, half), num_frames_in_batch=torch.tensor(5)).loss.backward()
    for name, value in model.named_parameters():
        assert_close(value.grad, whole[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("use_images", [True, False])
def test_every_parameter_is_trained_and_the_loss_falls_on_one_batch(use_images):
    model, batch = tiny(open_gates=False, use_images=use_images).train(), frozen_draws(make_batch())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert not [name for name, value in model.named_parameters() if value.grad is None]
    # The gates have opened, and what lies behind them learns too.
    silent = [name for name, value in model.named_parameters() if not value.grad.any()]
    assert not silent


def test_gradient_checkpointing_changes_no_gradient():
    batch, gradients = frozen_draws(make_batch()), []
    for checkpointing in (False, True):
        model = tiny(dropout=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**batch).loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    assert_close(*gradients)


def test_losses_of_two_evaluations_compare_and_those_of_training_do_not():
    model, batch = tiny(), make_batch()
    assert model(**batch).loss == model(**batch).loss
    model.train()
    assert model(**batch).loss != model(**batch).loss


def test_diffusion_times_and_noise_levels_are_diffusers():
    schedule = FlowMatchEulerDiscreteScheduler(1000)
    assert_close(schedule.timesteps, 1000 - torch.arange(1000.0))
    assert_close(schedule.sigmas, schedule.timesteps / 1000, rtol=0, atol=0)
    model, seen = tiny().train(), []
    model.denoiser.context = lambda condition, times, real=model.denoiser.context: (
        seen.append(times),
        real(condition, times),
    )[1]
    for seed in range(20):
        torch.manual_seed(seed)
        model(**make_batch())
    times = torch.cat(seen)
    assert torch.isin(times, schedule.timesteps.round()).all()
    assert 300 < times.mean() < 700


def test_bfloat16_trains_and_samples():
    model, batch = tiny().bfloat16().train(), make_batch()
    model(**batch).loss.backward()
    with torch.autocast("cpu", torch.bfloat16):
        tiny().train()(**batch).loss.backward()
    sampled = model.eval().sample(batch["plan"], batch["rgb"][:, :2], num_samples=2)
    assert sampled.isfinite().all()


def test_samples_are_in_metres_and_repeat_with_the_seed():
    model, batch = tiny(), make_batch()
    arguments = {"plan": batch["plan"], "rgb": batch["rgb"][:, :2], "num_samples": 3}
    drawn = [
        model.sample(**arguments, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert drawn[0].shape == (2, 3, 5, 3)
    assert_close(drawn[0], drawn[1], rtol=0, atol=0)
    assert not drawn[0].allclose(drawn[2])
    model.config.action_scale = [8.0, 8.0, 2.0]
    again = model.sample(**arguments, generator=torch.Generator().manual_seed(0))
    assert_close(again * 2, drawn[0])


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("use_images", [True, False])
def test_samples_are_those_of_the_plain_loop_from_diffusers_blocks(scale, use_images):
    model, batch = tiny(use_images=use_images), make_batch()
    plain = PlainLoop(model)
    plan, rgb, noise = batch["plan"][:1], batch["rgb"][:1, :2], torch.randn(1, 6, 5, 3)
    expected = plain(plan, rgb, noise, guidance_scale=scale)
    sampled = model.sample(plan, rgb, noise=noise, guidance_scale=scale)
    assert_close(sampled, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_batch_samples_as_its_rows_do(scale):
    model, batch = tiny(), make_batch()
    arguments = {"plan": batch["plan"], "rgb": batch["rgb"][:, :2]}
    arguments["noise"] = torch.randn(2, 6, 5, 3)
    both = model.sample(**arguments, guidance_scale=scale)
    for row in (slice(0, 1), slice(1, 2)):
        alone = model.sample(**rows(arguments, row), guidance_scale=scale)
        assert_close(alone, both[row], atol=1e-5, rtol=0)


def test_kept_features_of_views_give_the_same_samples():
    model, batch = tiny(), make_batch()
    noise, rgb = torch.randn(2, 6, 5, 3), batch["rgb"][:, :2]
    expected = model.sample(batch["plan"], rgb, noise=noise)
    views = torch.cat([model.encode_views(rgb[:, :1]), model.encode_views(rgb[:, 1:])], dim=1)
    assert_close(model.sample(batch["plan"], views=views, noise=noise), expected)
    blind = tiny(use_images=False)
    empty = blind.encode_views(rgb)
    assert_close(
        blind.sample(batch["plan"], views=empty, noise=noise),
        blind.sample(batch["plan"], noise=noise),
    )


def test_plan_and_views_and_guidance_and_steps_matter():
    model, batch = tiny(), make_batch()
    rgb, noise = batch["rgb"][:, :2], torch.randn(2, 2, 5, 3)
    base = model.sample(batch["plan"], rgb, noise=noise)
    for other in (
        model.sample(batch["plan"] + 1, rgb, noise=noise),
        model.sample(batch["plan"], rgb.flip(1), noise=noise),
        model.sample(batch["plan"], rgb, noise=noise, guidance_scale=2.0),
        model.sample(batch["plan"], rgb, noise=noise, num_inference_steps=7),
    ):
        assert not other.allclose(base, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": torch.zeros(2, 4, 9)}, r"plan: found \(2, 4, 9\), expected \(..., 12\)"),
        ({"rgb": None}, r"rgb: found None, expected \(..., 3, 28, 28\)"),
        ({"rgb": torch.zeros(2, 3, 3, 42, 42)}, "rgb: found .*42, 42"),
        ({"actions": torch.zeros(2, 3, 4, 3)}, r"actions: found .*, expected \(..., 5, 3\)"),
        ({"actions": None}, "NextDiTActionExpert: actions: found None"),
        ({"frame_mask": torch.zeros(2, 3, dtype=torch.bool)}, "frame_mask: found no valid frame"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny()(**{**make_batch(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rgb": None}, "rgb: found None"),
        ({"rgb": torch.zeros(2, 3, 3, 28, 28)}, "There are 3 views; expected 2"),
        ({"views": torch.zeros(2, 1, 4, 16)}, "There are 1 views; expected 2"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0; expected at least 1"),
    ],
)
def test_sampling_inputs_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny().sample(**{"plan": make_batch()["plan"], "rgb": make_batch()["rgb"][:, :2], **change})
