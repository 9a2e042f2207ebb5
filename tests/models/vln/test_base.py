"""What Seq2Seq and CMA do alike: steps and sequences, frozen parts, kept features, bad input."""

import pytest
import torch
from torch.testing import assert_close

from tests.tiny.vln import tiny_cma, tiny_seq2seq

NONE = torch.tensor([-1, -1])
MAKERS = {
    "seq2seq": tiny_seq2seq,
    "seq2seq-previous": lambda **f: tiny_seq2seq(use_previous_action=True, **f),
    "cma": tiny_cma,
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.fixture
def model(make):
    model = make()
    with torch.no_grad():  # as fresh, all actions are about as likely
        model.action_head.weight.mul_(100)
    return model


def walk(model, batch: dict) -> tuple[list, torch.Tensor]:
    """Log-probabilities at each step, and the last state."""
    logits, state, starts = [], None, None
    instruction = model.encode_instruction(batch["instruction_ids"])
    for t in range(batch["rgb"].shape[1]):
        views = batch["rgb"][:, t], batch["depth"][:, t], batch["previous_actions"][:, t]
        step = model.act(instruction, *views, state, starts)
        state, starts = step.recurrent_state, torch.zeros(len(step.actions), dtype=torch.bool)
        assert torch.equal(step.actions, step.logits.argmax(1))
        logits.append(step.logits)
    return logits, state


@torch.no_grad()
def test_steps_one_by_one_are_the_sequence(model):
    batch = model.dummy_inputs
    batch["step_mask"][:] = True
    output = model(**batch)
    logits, state = walk(model, batch)
    assert_close(torch.stack(logits, 1), output.logits, atol=1e-5, rtol=1e-5)
    assert_close(state, output.recurrent_state, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_sequence_goes_on_from_a_state(model):
    batch = model.dummy_inputs
    batch["step_mask"][:] = True
    whole = model(**batch)
    per_step = {k: v for k, v in batch.items() if v.dim() > 1 and v.shape[1] == 3}
    rest = {"instruction_ids": batch["instruction_ids"]}
    first = model(**rest, **{k: v[:, :1] for k, v in per_step.items()})
    state = first.recurrent_state
    second = model(**rest, **{k: v[:, 1:] for k, v in per_step.items()}, recurrent_state=state)
    assert_close(second.logits, whole.logits[:, 1:], atol=1e-5, rtol=1e-5)
    assert_close(second.recurrent_state, whole.recurrent_state, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_state_is_that_after_an_episodes_last_step(model):
    batch = model.dummy_inputs
    short = {k: v[1:, :2] if v.dim() > 1 and v.shape[1] == 3 else v[1:] for k, v in batch.items()}
    alone = model(**short).recurrent_state
    assert_close(model(**batch).recurrent_state[1:], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_robots_at_different_steps_share_a_call(model):
    """One goes on, the other starts; whatever its row of the state was."""
    batch = model.dummy_inputs
    views = batch["rgb"][:, 1], batch["depth"][:, 1], torch.tensor([2, 3])
    ids = batch["instruction_ids"]
    shape = (2, model.num_recurrent_layers, model.config.hidden_size)
    state = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    state[1] = torch.nan
    both = model.act(ids, *views, state, torch.tensor([False, True]))
    one = model.act(ids[:1], *(v[:1] for v in views), state[:1])
    other = model.act(ids[1:, :2], *(v[1:] for v in views[:2]), torch.tensor([-1]))
    for name in ("logits", "recurrent_state", "progress"):
        assert_close(getattr(both, name)[:1], getattr(one, name), atol=1e-5, rtol=1e-5)
        assert_close(getattr(both, name)[1:], getattr(other, name), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_reset_inside_a_sequence_starts_a_new_episode(model):
    batch = model.dummy_inputs
    batch["step_mask"][:] = True
    resets = torch.tensor([[True, False, False], [True, True, False]])
    output = model(**batch, reset_mask=resets)
    rest = {k: v[1:, 1:] if v.dim() > 1 and v.shape[1] == 3 else v[1:] for k, v in batch.items()}
    assert_close(output.logits[1:, 1:], model(**rest).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_kept_features_give_the_same(model):
    batch = model.dummy_inputs
    expected = model(**batch)
    rgb, depth = batch.pop("rgb"), batch.pop("depth")
    batch["rgb_features"] = model.encode_rgb(rgb.flatten(0, 1)).unflatten(0, (2, 3))
    batch["depth_features"] = model.encode_depth(depth.flatten(0, 1)).unflatten(0, (2, 3))
    assert_close(model(**batch).logits, expected.logits, atol=1e-6, rtol=1e-6)
    assert_close(model(**batch).loss, expected.loss)


@torch.no_grad()
def test_bytes_and_floats_and_more_than_the_largest_depth(model):
    batch = model.dummy_inputs
    pixels = (255 * batch["rgb"]).byte()
    by_bytes = model(**(batch | {"rgb": pixels})).logits
    assert_close(by_bytes, model(**(batch | {"rgb": pixels / 255})).logits)
    far, farther = (model(**(batch | {"depth": batch["depth"] + d})).logits for d in (10, 20))
    assert_close(far, farther)


def test_colours_are_normalised_where_the_configuration_says(make):
    rgb = torch.rand(2, 3, 32, 32)
    plain = make()
    model = make(image_mean=(0.1, 0.2, 0.3), image_std=(0.5, 0.5, 0.25))
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.5, 0.25])
    normalised = (rgb - mean[:, None, None]) / std[:, None, None]
    assert_close(model.encode_rgb(rgb), plain.encode_rgb(normalised))


@pytest.mark.parametrize("name", ["rgb_encoder", "depth_encoder", "word_embeddings"])
def test_a_part_learns_only_where_asked(make, name):
    for learns in (False, True):
        model = make(**{f"train_{name}": learns}).train()
        model(**model.dummy_inputs).loss.backward()
        parameters = [p for key, p in model.named_parameters() if name in key]
        assert parameters
        assert all((parameter.grad is not None) == learns for parameter in parameters)


def test_features_are_fixed_only_where_nothing_moves_them(make):
    assert make().has_fixed_features
    assert make(train_word_embeddings=True).has_fixed_features
    for field in ("train_rgb_encoder", "train_depth_encoder"):
        assert not make(**{field: True}).has_fixed_features
    assert not make(batch_norm_mode="training").has_fixed_features


def test_padding_does_not_reach_batch_statistics(make):
    model = make(batch_norm_mode="training").train()
    batch = model.dummy_inputs
    batch["rgb"][1, 2] = torch.nan
    assert model(**batch).loss.isfinite()


@torch.no_grad()
@pytest.mark.parametrize("name", ["instruction", "rgb", "depth"])
def test_an_ablated_input_does_not_matter(make, name):
    model = make(ablated_inputs=[name])
    model.action_head.weight.mul_(100)
    batch = model.dummy_inputs
    other = (
        batch
        | {
            "instruction": {"instruction_ids": batch["instruction_ids"].clamp(max=1) * 7},
            "rgb": {"rgb": 1 - batch["rgb"]},
            "depth": {"depth": 9 - batch["depth"]},
        }[name]
    )
    assert_close(model(**other).logits, model(**batch).logits)
    full = make()
    full.action_head.weight.mul_(100)
    assert not torch.allclose(full(**other).logits, full(**batch).logits, atol=1e-4)


def test_without_a_monitor_there_is_no_progress(make):
    model = make(has_progress_monitor=False)
    batch = model.dummy_inputs
    del batch["progress"]
    output = model(**batch)
    assert output.progress is None
    assert output.loss_counts.keys() == {"action_loss"}
    step = model.act(batch["instruction_ids"], batch["rgb"][:, 0], batch["depth"][:, 0], NONE)
    assert step.progress is None


def test_a_row_that_is_padding_gives_no_error_and_no_nan(model):
    batch = model.dummy_inputs
    expected = model(**batch).loss
    batch = {key: torch.cat([value, value[-1:]]) for key, value in batch.items()}
    batch["instruction_ids"][2] = 0
    batch["step_mask"][2] = False
    batch["episode_mask"][2] = False
    model.train()
    loss = model(**batch).loss
    loss.backward()
    assert_close(loss, expected)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_bad_input_is_one_error(model):
    batch = model.dummy_inputs
    for bad, told in [
        (
            {"rgb": batch["rgb"][..., 1:]},
            r"rgb: found \(2, 3, 3, 32, 31\), expected \(2, 3, 3, 32,",
        ),
        ({"depth": None}, r"depth: found None, expected \(2, 3, 32, 32\)"),
        ({"instruction_ids": 0 * batch["instruction_ids"]}, r"found no word in row\(s\) \[0, 1\]"),
        ({"instruction_ids": 20 + batch["instruction_ids"]}, "of another vocabulary"),
        ({"progress": None}, "progress: found None"),
        (
            {"rgb_features": torch.zeros(2, 2, 7)},
            r"rgb_features: found \(2, 2, 7\), expected \(2, 3",
        ),
        (
            {"depth_features": torch.zeros(2, 3, 9, 4, 4)},
            r"depth_features: found \(2, 3, 9, 4, 4\), expected \(2, 3, 8, 2, 2\)",
        ),
    ]:
        with pytest.raises(ValueError, match=told):
            model(**(batch | bad))
    views = batch["rgb"][:, 0], batch["depth"][:, 0], NONE
    with pytest.raises(ValueError, match="found no word"):
        model.act(0 * batch["instruction_ids"], *views)


def test_previous_actions_are_needed_where_they_are_read():
    batch = tiny_cma().dummy_inputs
    del batch["previous_actions"]
    with pytest.raises(ValueError, match="CMAModel: previous_actions: found None"):
        tiny_cma()(**batch)
    assert tiny_seq2seq()(**batch).loss.isfinite()


def test_mixed_precision_trains(model):
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**model.dummy_inputs).loss
    loss.backward()
    assert loss.isfinite()


def test_heads_start_as_published(make):
    model = make()
    weight = model.action_head.weight
    assert_close(weight @ weight.T, 1e-4 * torch.eye(4), atol=1e-8, rtol=1e-4)
    assert not model.action_head.bias.any()
    rnn = model.state_encoder.rnn
    recurrent = rnn.weight_hh_l0
    assert_close(recurrent.T @ recurrent, torch.eye(16), atol=1e-5, rtol=0)
    assert not rnn.bias_ih_l0.any()
