"""One contract for all models: what every registered model of ours must do, on a tiny one of each.

A new model needs one entry in `CASES` of `tests.tiny.cases`; what only one model does is tested in
its own file.
"""

import inspect

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModel, PreTrainedModel

from internnav_hf.catalog import FAMILIES
from internnav_hf.models.dual_system.action_expert import ActionExpert
from internnav_hf.models.navdp.model import NavDPModel
from tests.tiny.batch import pad_batch
from tests.tiny.cases import (
    CASES,
    DIALOGUE_KEYS,
    DUAL_SYSTEMS,
    EXPERTS,
    FRAME_KEYS,
    IMAGE_KEYS,
    Batch,
    Case,
)
from tests.tiny.system2 import tiny_vlm_config

ACTION_MODELS = (*EXPERTS, "navdp-system1")
RECURRENT_MODELS = ("ddppo", "ddppo-continuous", "seq2seq", "cma", "cma-clip", "rdp")
NOT_OF_STEPS = ("instruction_ids", "episode_mask")


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture
def model(case) -> PreTrainedModel:
    return case.make()


@pytest.fixture
def batch(case, model) -> Batch:
    return case.batch(model)


def padded(batch: Batch) -> Batch:
    """More of everything that a collator pads with: samples and frames that must not be read,
    tokens.
    """
    if "sample_mask" in batch:
        batch = {key: torch.cat([tensor, tensor[-1:]]) for key, tensor in batch.items()}
        batch["sample_mask"][-1] = False
        for key in {"actions", "cost_map"} & batch.keys():
            batch[key][-1] = torch.nan
    if "step_mask" in batch:
        batch = {key: torch.cat([tensor, tensor[-1:]]) for key, tensor in batch.items()}
        batch.get("episode_mask", batch["step_mask"])[-1] = False
        steps = [key for key in batch if key not in NOT_OF_STEPS]
        batch |= {key: torch.cat([batch[key], batch[key][:, -1:]], dim=1) for key in steps}
        batch["step_mask"][:, -1] = False
        for key in {"depth", "progress", "pointgoal"} & batch.keys():
            batch[key][:, -1] = torch.nan
        if "instruction_ids" in batch:
            batch["instruction_ids"] = torch.nn.functional.pad(batch["instruction_ids"], (0, 3))
    if "frame_mask" in batch:
        batch = batch | {
            key: torch.cat([batch[key], batch[key][:, -1:]], dim=1) for key in FRAME_KEYS
        }
        batch["frame_mask"][:, -1] = False
        batch["actions"][:, -1] = torch.nan
    if "input_ids" in batch:
        tokens = pad_batch({"labels": torch.zeros_like(batch["input_ids"])} | batch, extra=5)
        batch = {key: tokens[key] for key in batch}
    return batch


def rows(batch: Batch, chosen: list[int]) -> Batch:
    """Some samples of a batch, with their images."""
    picked = {key: value[chosen] for key, value in batch.items() if key not in IMAGE_KEYS}
    if "pixel_values" not in batch:
        return picked
    num_images = (batch["input_ids"] == tiny_vlm_config().vision_start_token_id).sum(1)
    owner = torch.arange(len(num_images)).repeat_interleave(num_images)
    is_ours = torch.isin(owner, torch.tensor(chosen))
    sizes = batch["image_grid_thw"].prod(1)
    return picked | {
        "pixel_values": batch["pixel_values"][is_ours.repeat_interleave(sizes)],
        "image_grid_thw": batch["image_grid_thw"][is_ours],
    }


def counts(model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
    """What the trainer tells `forward` of the whole optimisation step."""
    found = {
        argument: batch[key].sum()
        for key, argument in model.loss_count_keys.items()
        if key in batch
    }
    if "labels" in batch:
        found["num_items_in_batch"] = (batch["labels"][:, 1:] != -100).sum()
    return found


def sample(model: PreTrainedModel, batch: Batch, seed: int) -> Tensor:
    """Two trajectories of each sample; of an expert, from the first two frames."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(model, NavDPModel):
        goal = [{"point": point} for point in batch["goal_point"]]
        return model.sample(goal, batch["rgb"], batch["depth"], 2, generator).actions
    expert, plan = model, batch.get("plan")
    if plan is None:
        with torch.no_grad():
            plan = model(**{key: batch[key] for key in DIALOGUE_KEYS}).plan
        expert = model.action_expert
    views = {key: batch[key][:, :2] for key in ("rgb", "depth")}
    return expert.sample(plan, **views, num_samples=2, generator=generator)


def test_every_registered_model_is_held_to_the_contract():
    covered = {type(case.make().config) for case in CASES.values()}
    assert covered == {family.load("config") for family in FAMILIES}


def test_forward_takes_the_batchs_keys_and_no_others(model, batch):
    parameters = inspect.signature(model.forward).parameters
    assert batch.keys() | counts(model, batch).keys() <= parameters.keys()
    kinds = {parameter.kind for parameter in parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds


@pytest.mark.parametrize("name", EXPERTS)
def test_experts_have_the_signatures_of_their_base(name):
    model = CASES[name].make()
    for method in ("encode", "errors", "denoise"):
        ours = list(inspect.signature(getattr(model, method)).parameters)
        asked = list(inspect.signature(getattr(ActionExpert, method)).parameters)[1:]
        assert ours[: len(asked)] == asked


@pytest.mark.parametrize("name", [*ACTION_MODELS, *RECURRENT_MODELS])
def test_dummy_inputs_run(name):
    model = CASES[name].make()
    assert model(**model.dummy_inputs).loss.isfinite()


def test_the_loss_is_a_finite_scalar_with_named_parts(model, batch):
    output = model(**batch)
    assert output.loss.shape == ()
    assert output.loss.isfinite()
    assert output.loss_counts.keys() <= output.keys()
    assert all(name.endswith("_loss") for name in output.loss_counts)


def test_what_trains_gets_a_gradient_and_what_is_frozen_none(model, batch):
    model.train()
    model(**batch).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_one_batch_can_be_learnt(model, batch):
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=5e-3)
    losses = []
    for _ in range(40):
        loss = model(**batch).loss
        losses.append(loss.item())
        if losses[-1] < 0.5 * losses[0]:
            return
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    pytest.fail(f"not learnt: {losses}")


def test_saved_and_loaded_it_is_the_same(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert_close(loaded(**batch).loss, model(**batch).loss, atol=1e-6, rtol=1e-6)


def test_padding_does_not_change_the_loss(model, batch):
    assert_close(model(**padded(batch)).loss, model(**batch).loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2])
def test_small_batches_with_the_whole_ones_counts_add_up_to_it(model, batch, size):
    whole, given = model(**batch).loss, counts(model, batch)
    counted = next(key for key in ("input_ids", "rgb", "depth") if key in batch)
    indices = list(range(len(batch[counted])))
    parts = [
        model(**rows(batch, indices[start : start + size]), **given).loss
        for start in indices[::size]
    ]
    assert_close(torch.stack(parts).sum(), whole, atol=1e-5, rtol=1e-5)


def test_bfloat16_gives_about_the_same_loss(model, batch):
    expected = model(**batch).loss.item()
    model.to(torch.bfloat16)
    floats = {key: batch[key].bfloat16() for key in ("pixel_values", "plan") if key in batch}
    assert model(**(batch | floats)).loss.item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [*ACTION_MODELS, *DUAL_SYSTEMS])
def test_a_seeded_sample_repeats(name, dtype):
    model = CASES[name].make().to(dtype)
    batch = CASES[name].batch(model)
    first, again, other = (sample(model, batch, seed) for seed in (0, 0, 1))
    assert first.isfinite().all()
    assert first.shape[1:] == (2, *batch["actions"].shape[-2:])
    assert_close(again, first, atol=0, rtol=0)
    assert not torch.equal(other, first)


def test_a_trainer_that_accumulates_must_count(model, batch):
    model.train()
    model(**batch).loss.backward()
    model.num_parameters(exclude_embeddings=True)  # as transformers' Trainer does
    with pytest.raises(ValueError, match=r"found None while gradients.*NavTrainer"):
        model(**batch)
    model(**batch, **counts(model, batch)).loss.backward()


def test_named_losses_add_up_by_their_weights(model, batch):
    with torch.no_grad():
        output = model(**batch)
    parts = [weight * output[name] for name, weight in model.loss_weights.items() if name in output]
    assert_close(sum(parts), output.loss)
