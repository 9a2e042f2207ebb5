"""The dual system: plans without padding's influence, the frozen prefix, loading."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from internnav_hf.models.dual_system.config import DualSystemConfig
from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.system2.model import System2Model
from internnav_hf.models.system2.session import System2Session
from tests.hub_server import go_online, serve
from tests.tiny.batch import pad_batch, tiny_batch
from tests.tiny.system2 import FAMILIES, tiny_system2
from tests.tiny.toy_expert import ToyExpertConfig

DIALOGUE = (
    "input_ids",
    "attention_mask",
    "pixel_values",
    "image_grid_thw",
    "mm_token_type_ids",
)


def dual_system(family: str = "qwen2_5_vl", **fields) -> DualSystemModel:
    system2 = tiny_system2(family)
    torch.manual_seed(1)
    return DualSystemModel.from_parts(system2, ToyExpertConfig(), num_queries=3, **fields)


def dual_batch(family: str = "qwen2_5_vl", extra_padding: int = 2) -> dict[str, torch.Tensor]:
    batch = pad_batch(tiny_batch(family), extra_padding)
    generator = torch.Generator().manual_seed(0)
    return {key: batch[key] for key in DIALOGUE} | {
        "rgb": torch.rand(3, 2, 3, 8, 8, generator=generator),
        "actions": torch.randn(3, 2, 4, 3, generator=generator),
        "frame_mask": torch.tensor([[True, True], [True, False], [True, True]]),
    }


def with_two_plans(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Besides the plan at the end, one five tokens before, with targets of its own."""
    ends = batch["attention_mask"].sum(1)
    targets = {
        key: torch.stack([batch[key].flip(0), batch[key]], 1)
        for key in ("rgb", "actions", "frame_mask")
    }
    return batch | targets | {"plan_position": torch.stack([ends - 5, ends], 1)}


def plain_plans(model: DualSystemModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """(B, K, Q, D): each dialogue by itself, cut at its plan, queries behind, one whole pass."""
    vlm, queries = model.system2.vlm.model, model.latent_queries.weight
    all_ends = batch.get("plan_position", batch["attention_mask"].sum(1)[:, None])
    merge = model.config.system2_config.vlm_config.vision_config.spatial_merge_size
    sizes = (batch["image_grid_thw"].prod(1)).tolist()
    patches, grids = list(batch["pixel_values"].split(sizes)), list(batch["image_grid_thw"])
    image_token = model.config.system2_config.vlm_config.image_token_id
    plans = []
    for ids, ends in zip(batch["input_ids"], all_ends.tolist(), strict=True):
        num_images, num_tokens = 0, int((ids == image_token).sum())
        while num_tokens:
            num_tokens -= int(grids[num_images].prod()) // merge**2
            num_images += 1
        images = {
            "pixel_values": torch.cat(patches[:num_images]),
            "image_grid_thw": torch.stack(grids[:num_images]),
        }
        del patches[:num_images], grids[:num_images]
        for end in ends:
            text = ids[None, :end]
            placeholders = torch.nn.functional.pad(text, (0, len(queries)))
            positions, _ = vlm.get_rope_index(
                placeholders,
                mm_token_type_ids=(placeholders == image_token).int(),
                image_grid_thw=images["image_grid_thw"],
            )
            embeddings = torch.cat([model.get_input_embeddings()(text), queries[None]], 1)
            output = vlm(
                inputs_embeds=embeddings, position_ids=positions, use_cache=False, **images
            )
            plans.append(output.last_hidden_state[0, end:])
    return torch.stack(plans).unflatten(0, all_ends.shape)


def loss_and_gradients(model: DualSystemModel, batch, plain: bool = False):
    model.zero_grad()
    if plain:
        targets = {key: batch[key] for key in ("rgb", "actions", "frame_mask")}
        if "plan_position" in batch:
            targets = {key: value.flatten(0, 1) for key, value in targets.items()}
        loss = model.action_expert(plain_plans(model, batch).flatten(0, 1), **targets).loss
    else:
        loss = model(**batch).loss
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss.item(), gradients


def assert_equal(found, expected):
    """Every parameter's gradient by itself: the queries' are small beside the expert's."""
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1].keys() == expected[1].keys()
    largest = max(gradient.norm() for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        # where softmax cancels a bias there is noise only
        assert (found[1][name] - gradient).norm() < 1e-5 * gradient.norm() + 1e-8 * largest, name


@pytest.mark.parametrize("plans", ["one plan", "two plans"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_frozen_prefix_has_loss_and_gradients_of_the_plain_pass(family, plans):
    model, batch = dual_system(family), dual_batch(family)
    batch = with_two_plans(batch) if plans == "two plans" else batch
    model.system2.requires_grad_(False)
    model.train()
    found = loss_and_gradients(model, batch)
    assert model.latent_queries.weight.grad.abs().max() > 0
    assert_equal(found, loss_and_gradients(model, batch, plain=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_does_not_break_the_frozen_prefix(family):
    model, batch = dual_system(family), dual_batch(family)
    model.system2.requires_grad_(False)
    expected = loss_and_gradients(model.eval(), batch)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert_equal(loss_and_gradients(model.train(), batch), expected)


@pytest.mark.parametrize("plans", ["one plan", "two plans"])
@pytest.mark.parametrize("part", ["vlm", "vlm.model.visual"])
def test_a_learning_system2_takes_the_whole_pass_and_says_so(part, plans, caplog):
    model, batch = dual_system(), dual_batch()
    batch = with_two_plans(batch) if plans == "two plans" else batch
    model.system2.requires_grad_(False)
    model.system2.get_submodule(part).requires_grad_(True)
    with caplog.at_level(logging.WARNING):
        found = loss_and_gradients(model, batch)
        loss_and_gradients(model, batch)
    assert caplog.text.count("System2 learns too") == 1
    assert_equal(found, loss_and_gradients(model, batch, plain=True))


@pytest.mark.parametrize("plans", ["one plan", "two plans"])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_padding_loss_and_gradients_are_the_same(family, frozen, plans):
    model, batch = dual_system(family), dual_batch(family)
    batch = with_two_plans(batch) if plans == "two plans" else batch
    model.system2.requires_grad_(not frozen)
    expected = loss_and_gradients(model, batch)
    model.system2.drop_padding()
    assert_equal(loss_and_gradients(model, batch), expected)


def test_lora_in_the_language_model_gets_gradients():
    from internnav_hf.training.tuning import add_lora

    model, batch = dual_system(), dual_batch()
    adapted = add_lora(model, rank=2)
    loss_and_gradients(adapted, batch)
    assert not model.system2_is_frozen
    lora = [p for name, p in adapted.named_parameters() if "lora_B" in name and p.requires_grad]
    assert lora
    assert all(p.grad.abs().max() > 0 for p in lora)


@pytest.mark.parametrize("frozen", [True, False])
def test_padding_does_not_change_the_plan(frozen):
    model = dual_system()
    model.system2.requires_grad_(not frozen)
    few, many = (model(**dual_batch(extra_padding=extra)) for extra in (0, 7))
    torch.testing.assert_close(few.plan, many.plan, atol=1e-5, rtol=1e-5)
    assert few.loss.item() == pytest.approx(many.loss.item(), rel=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_padding_may_stand_on_the_left(frozen):
    model, batch = dual_system(), dual_batch(extra_padding=0)
    model.system2.requires_grad_(not frozen)
    expected = model(**batch).plan
    length = batch["input_ids"].shape[1]
    shifts = (length - batch["attention_mask"].sum(1)).tolist()
    for key in ("input_ids", "attention_mask", "mm_token_type_ids"):
        rows = zip(batch[key], shifts, strict=True)
        batch[key] = torch.stack([row.roll(shift) for row, shift in rows])
    assert max(shifts) > 0
    torch.testing.assert_close(model(**batch).plan, expected, atol=1e-5, rtol=1e-5)


def test_without_gradient_nothing_is_said_about_learning(caplog):
    with caplog.at_level(logging.WARNING), torch.no_grad():
        dual_system()(**dual_batch())
    assert "learns" not in caplog.text


def test_a_session_leaves_the_plan_and_goes_on():
    """Segment by segment on the cache; the plan is that of one pass, and leaves no trace."""
    model, batch = dual_system(), dual_batch(extra_padding=0)
    model.system2.requires_grad_(False)
    ids = batch["input_ids"][0][batch["attention_mask"][0].bool()]
    images = {
        "pixel_values": batch["pixel_values"][: int(batch["image_grid_thw"][:3].prod(1).sum())],
        "image_grid_thw": batch["image_grid_thw"][:3],
    }
    images = {key: value.numpy() for key, value in images.items()}
    whole = model(
        **{key: value[:1] for key, value in batch.items() if key in DIALOGUE[:2]},
        **{key: torch.as_tensor(value) for key, value in images.items()},
    ).plan
    session = System2Session(model.system2)
    session.extend([{"input_ids": ids[:-4].numpy(), **images}])
    early = model.plan(session)
    session.extend([{"input_ids": ids[-4:].numpy()}])
    torch.testing.assert_close(model.plan(session), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.plan(session), whole, atol=1e-5, rtol=1e-5)
    assert (early - whole).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_it_is_the_same(family, tmp_path):
    model, batch = dual_system(family), dual_batch(family)
    model.save_pretrained(tmp_path)
    loaded = DualSystemModel.from_pretrained(tmp_path)
    assert loaded.config.num_queries == 3
    torch.testing.assert_close(loaded(**batch).loss, model(**batch).loss)


@pytest.mark.parametrize("asked", [None, "auto", torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_all_weights_have_the_type_that_is_asked_for(stored, asked, tmp_path):
    """A plain VLM in one type becomes System2 in float32, as the recipe does, and part of a dual
    system that is stored in `stored`."""
    tiny_system2(use_pixel_goal_head=False).vlm.to(torch.bfloat16).save_pretrained(tmp_path / "vlm")
    system2 = System2Model.from_pretrained(tmp_path / "vlm", dtype=torch.float32)
    model = DualSystemModel.from_parts(system2, ToyExpertConfig(), num_queries=3)
    model.to(stored).save_pretrained(tmp_path / "dual")
    arguments = {} if asked is None else {"dtype": asked}
    loaded = DualSystemModel.from_pretrained(tmp_path / "dual", **arguments)
    expected = stored if asked in (None, "auto") else asked
    assert {p.dtype for p in loaded.parameters()} == {expected}
    batch = dual_batch()
    batch |= {key: batch[key].to(expected) for key in ("rgb", "actions", "pixel_values")}
    assert loaded(**batch).loss.isfinite()


def test_what_is_pushed_to_the_hub_loads_from_there(monkeypatch, tmp_path):
    model = dual_system()
    with serve() as hub:
        go_online(monkeypatch, hub, tmp_path / "hub-cache")
        model.push_to_hub("me/dual", license="mit")
        loaded = AutoModel.from_pretrained("me/dual")
    assert isinstance(loaded, DualSystemModel)
    assert torch.equal(loaded.latent_queries.weight, model.latent_queries.weight)


def test_a_key_too_few_or_too_many_is_refused(tmp_path):
    dual_system().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    queries = weights.pop("latent_queries.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 key\(s\): latent_queries.weight"):
        DualSystemModel.from_pretrained(tmp_path)
    weights |= {"latent_queries.weight": queries, "action_expert.other": queries.clone()}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"unexpected 1 key\(s\): action_expert.other"):
        DualSystemModel.from_pretrained(tmp_path)


def test_a_key_of_another_shape_is_refused(tmp_path):
    dual_system().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"other shapes for 1 key\(s\): latent_queries.weight"):
        DualSystemModel.from_pretrained(tmp_path, num_queries=5)


def test_another_expert_must_fit_the_stored_system2(tmp_path):
    dual_system().save_pretrained(tmp_path)
    expert = ToyExpertConfig(plan_hidden_size=32)
    with pytest.raises(ValueError, match="plan_hidden_size is 32"):
        DualSystemConfig.from_pretrained(tmp_path, action_expert_config=expert)


def test_an_expert_for_another_width_is_refused():
    with pytest.raises(ValueError, match="plan_hidden_size is 32, but System2's hidden_size is 64"):
        DualSystemModel.from_parts(tiny_system2(), ToyExpertConfig(plan_hidden_size=32))


def test_a_system2_is_not_a_dual_system(tmp_path):
    tiny_system2().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected 'internnav_dual_system'"):
        DualSystemModel.from_pretrained(tmp_path)


def test_a_released_model_without_system1_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "internvla_n1"}))
    with pytest.raises(ValueError, match=r"system1: found None, expected one of nextdit_async"):
        DualSystemConfig.from_pretrained(tmp_path)


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'num_queries'"):
        DualSystemConfig(num_querys=3, action_expert_config=ToyExpertConfig(plan_hidden_size=8))
