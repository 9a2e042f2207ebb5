"""RDP: steps, robots at different steps, padding, mistakes by name, what is frozen."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from internnav_hf.models.rdp.model import RDPAction, RDPModel
from tests.tiny.rdp import tiny_rdp

EXACT = {"atol": 1e-5, "rtol": 0}
WAY = ("previous_displacements", "relative_pose")


@pytest.fixture(scope="module")
def model() -> RDPModel:
    return tiny_rdp()


@pytest.fixture
def batch(model) -> dict[str, Tensor]:
    return model.dummy_inputs


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def act(model: RDPModel, batch: dict[str, Tensor], rows: list[int], step: int, **given):
    """`act` of some rows at a step, with the instruction kept."""
    words = model.encode_instruction(batch["instruction_ids"])[rows]
    seen = (batch[name][rows, step] for name in ("rgb", "depth", *WAY))
    return model.act(words, *seen, **given)


def scene(model: RDPModel, batch: dict[str, Tensor]):
    rgb, depth = (batch[name].flatten(0, 1) for name in ("rgb", "depth"))
    features = (model.encode_rgb(rgb), model.encode_depth(depth))
    features = (value.unflatten(0, (2, 3)) for value in features)
    return model.advance(*features, *(batch[name] for name in WAY))


@torch.no_grad()
def test_acting_step_by_step_is_the_whole_episode(model, batch):
    whole = scene(model, batch)
    state, start = None, None
    for step in range(3):
        acted = act(model, batch, [0, 1], step, recurrent_state=state, generator=generators(0, 1))
        state = acted.recurrent_state
        assert_close(state[:, 0], whole.states[:, step], **EXACT)
        start = acted
    assert start is not None
    # the whole episode's last step with the draws of that step alone
    last = model.sample(
        batch["instruction_ids"],
        type(whole)(*(part[:, 2:] for part in whole)),
        generator=generators(0, 1),
    )
    assert_close(start.displacements, last.displacements[:, 0], **EXACT)
    assert_close(start.progress, last.progress[:, 0], **EXACT)


@torch.no_grad()
def test_robots_at_different_steps_do_as_if_alone(model, batch):
    first = act(model, batch, [0], 0, generator=generators(5))
    state = torch.cat([first.recurrent_state, torch.full((1, 1, 32), torch.nan)])
    mixed = {name: batch[name].clone() for name in batch}
    for name in ("rgb", "depth", *WAY):
        mixed[name][0, 0] = batch[name][0, 1]  # the first robot is at its second step
    starts = torch.tensor([False, True])
    given = {"recurrent_state": state, "starts": starts, "generator": generators(1, 2)}
    together = act(model, mixed, [0, 1], 0, **given)
    second = act(
        model, batch, [0], 1, recurrent_state=first.recurrent_state, generator=generators(1)
    )
    other = act(model, batch, [1], 0, generator=generators(2))
    for name in RDPAction._fields:
        expected = torch.cat([getattr(second, name), getattr(other, name)])
        assert_close(getattr(together, name), expected, **EXACT)


@torch.no_grad()
def test_who_does_not_decide_only_sees(model, batch):
    decide = torch.tensor([False, True])
    some = act(model, batch, [0, 1], 0, decide=decide, generator=generators(0, 1))
    every = act(model, batch, [0, 1], 0, generator=generators(0, 1))
    assert some.displacements[0].isnan().all()
    assert some.progress[0].isnan()
    assert_close(some.displacements[1], every.displacements[1], **EXACT)
    assert_close(some.recurrent_state, every.recurrent_state)
    none = act(model, batch, [0, 1], 0, decide=torch.zeros(2, dtype=torch.bool))
    assert none.displacements.isnan().all()


@torch.no_grad()
def test_a_generator_of_a_robot_that_walks_is_left_alone(model, batch):
    rows = generators(0, 1)
    before = rows[0].get_state()
    act(model, batch, [0, 1], 0, decide=torch.tensor([False, True]), generator=rows)
    assert torch.equal(rows[0].get_state(), before)


@torch.no_grad()
def test_published_decisions_advance_the_state_twice(batch):
    model = tiny_rdp(state_updates_per_decision=2)
    first = act(model, batch, [0, 1], 0)
    decide = torch.tensor([True, False])
    given = {"recurrent_state": first.recurrent_state, "decide": decide}
    twice = act(model, batch, [0, 1], 1, **given)
    once = tiny_rdp()
    single = act(once, batch, [0, 1], 1, **given)
    again = act(once, batch, [0, 1], 1, recurrent_state=single.recurrent_state)
    assert_close(twice.recurrent_state[0], again.recurrent_state[0], **EXACT)
    assert_close(twice.recurrent_state[1], single.recurrent_state[1], **EXACT)


@torch.no_grad()
def test_cached_features_are_as_frames(model, batch):
    rgb, depth = (batch.pop(name).flatten(0, 1) for name in ("rgb", "depth"))
    frames = {"rgb": rgb.unflatten(0, (2, 3)), "depth": depth.unflatten(0, (2, 3))}
    kept = {"rgb_features": model.encode_rgb(rgb), "depth_features": model.encode_depth(depth)}
    kept = {name: value.unflatten(0, (2, 3)) for name, value in kept.items()}
    drops = {"image_drop": torch.tensor([[True, False, False]] * 2)}
    assert_close(model(**batch, **kept).loss, model(**batch, **frames).loss, **EXACT)
    dropped = model(**batch, **kept, **drops)
    assert_close(dropped.loss, model(**batch, **frames, **drops).loss, **EXACT)
    assert abs(dropped.loss - model(**batch, **kept).loss) > 1e-4


def test_padding_is_never_read_and_counts_only_as_published(model, batch):
    loss = model(**batch).loss
    for name in ("rgb", "depth", "displacements", "progress", "stop_progress", *WAY):
        batch[name][1, 2] = torch.nan
    assert_close(model(**batch).loss, loss)
    published = tiny_rdp(padded_loss=True, loss_epsilon=0.01)
    padded = published(**batch)
    assert padded.loss.isfinite()
    assert abs(padded.loss - loss) > 1e-3


def test_a_carried_state_goes_on(model, batch):
    del batch["step_mask"]
    whole = model(**batch)
    first = {k: v if k == "instruction_ids" else v[:, :2] for k, v in batch.items()}
    rest = {k: v if k == "instruction_ids" else v[:, 2:] for k, v in batch.items()}
    state = model(**first).recurrent_state
    assert_close(model(**rest, recurrent_state=state).recurrent_state, whole.recurrent_state)
    resets = torch.tensor([[True, False, True]] * 2)
    fresh = model(**rest).recurrent_state
    assert_close(model(**batch, reset_mask=resets).recurrent_state, fresh)


def test_without_diffusion_displacements_are_learnt_at_once(batch):
    model = tiny_rdp(use_diffusion=False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 5e-3)
    for _ in range(60):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    found = model.sample(batch["instruction_ids"], scene(model, batch), batch["step_mask"])
    mask = batch["step_mask"]
    errors = (found.displacements - batch["displacements"])[mask].abs()
    assert errors.mean() < 0.05
    assert found.displacements[~mask].isnan().all()


def test_frozen_encoders_stay_as_they_are(model):
    model.train()
    for name in ("text_encoder", "rgb_encoder", "depth_encoder"):
        encoder = model.get_submodule(name)
        assert not encoder.training
        assert not any(p.requires_grad for p in encoder.parameters())
    assert model.has_fixed_features
    model.eval()
    learning = tiny_rdp(train_rgb_encoder=True, train_text_encoder=True, train_depth_encoder=True)
    assert all(parameter.requires_grad for parameter in learning.parameters())
    assert not learning.has_fixed_features
    learning.train()
    learning(**learning.dummy_inputs).loss.backward()
    assert all(parameter.grad is not None for parameter in learning.parameters())


def test_it_starts_as_published(model):
    for part in (model.denoiser.condition_layers, model.image_reader, model.text_reader):
        weights = [p.flatten() for n, p in part.named_parameters() if "orm" not in n and p.ndim > 1]
        assert torch.cat(weights).std().item() == pytest.approx(0.02, rel=0.05)
    assert model.denoiser.action_positions.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert not model.stop_head[0].bias.any()
    state = model.state_encoder.rnn.weight_hh_l0
    assert_close(state.T @ state, torch.eye(32), **EXACT)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("instruction_ids", torch.zeros(2, 4, dtype=torch.long), "no word"),
        ("instruction_ids", torch.full((2, 4), 60), "another vocabulary"),
        ("rgb", torch.zeros(2, 3, 3, 16, 16), "rgb"),
        ("depth", None, "depth: found None"),
        ("displacements", torch.zeros(2, 3, 4, 3), "displacements"),
        ("stop_progress", None, "stop_progress: found None"),
        ("progress", torch.zeros(3), "progress"),
    ],
)
def test_what_does_not_fit_is_an_error(model, batch, name, value, message):
    with pytest.raises(ValueError, match=message):
        model(**batch | {name: value})


def test_as_many_generators_as_robots(model, batch):
    with pytest.raises(ValueError, match="generator: found 1, expected 2"):
        model.sample(batch["instruction_ids"], scene(model, batch), generator=generators(0))


@torch.no_grad()
def test_all_steps_may_be_dropped_at_once(model, batch):
    """As happens where walks are short."""
    nothing = torch.ones(2, 3, dtype=torch.bool)
    others = {name: batch[name] / 2 for name in ("rgb", "depth")}
    first, second = (model(**given, image_drop=nothing) for given in (batch, batch | others))
    assert first.loss.isfinite()
    assert_close(first.loss, second.loss, **EXACT)


@pytest.mark.parametrize(("word", "message"), [(0, "no word"), (60, "another vocabulary")])
def test_words_are_looked_at_in_acting_too(model, batch, word, message):
    words = torch.full((2, 4), word)
    with pytest.raises(ValueError, match=message):
        model.act(words, *(batch[name][:, 0] for name in ("rgb", "depth", *WAY)))
