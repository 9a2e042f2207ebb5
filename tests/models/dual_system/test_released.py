"""Released checkpoints load as they are, strictly, and compute what the reference computes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.initialization import no_init_weights

from internnav_hf.models.dual_system.config import DualSystemConfig
from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.system2.session import System2Session
from tests.golden import GOLDEN
from tests.tiny.released import convert_released
from tests.tiny.seeded_weights import seeded_tensor

SYSTEM1 = ("nextdit_async", "navdp_async")
SCALE = torch.tensor([4.0, 4.0, 1.0])  # of the reference's targets


def released_config(text: dict, vision: dict, system1: str) -> dict:
    """As transformers 4.51 wrote it: the text model's fields at the top."""
    own = {"model_type": "internvla_n1", "architectures": ["InternVLAN1ForCausalLM"]}
    return {**text, "vision_config": vision, **own, "system1": system1, "n_query": 4}


@pytest.fixture(scope="module", params=SYSTEM1)
def system1(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def released_folder(system1, tmp_path_factory) -> Path:
    """The reference's tiny model as a folder like those on the Hub, in two shards."""
    folder = tmp_path_factory.mktemp(system1)
    golden = json.loads((GOLDEN / f"full_model_tiny_{system1}.json").read_text())
    config = released_config(golden["config"]["text"], golden["config"]["vision"], system1)
    (folder / "config.json").write_text(json.dumps(config))
    weights = {key: seeded_tensor(key, tuple(shape)) for key, shape in golden["keys"].items()}
    half = len(weights) // 2
    for number, keys in enumerate((list(weights)[:half], list(weights)[half:]), start=1):
        shard = {key: weights[key] for key in keys}
        save_file(shard, folder / f"model-{number:05d}-of-00002.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def model(released_folder) -> DualSystemModel:
    return DualSystemModel.from_pretrained(released_folder).eval()


def golden_batch(golden: dict[str, torch.Tensor], system1: str) -> dict[str, torch.Tensor]:
    """The reference's batch without its query tokens, which the model appends by itself."""
    position = torch.arange(golden["input_ids"].shape[1])
    is_query = (position >= golden["t_s_pos"][:, None]) & (
        position < golden["t_s_pos"][:, None] + 4
    )
    mask = golden["attention_mask"] & ~is_query
    frames = torch.arange(golden["traj_poses"].shape[1])
    batch = {
        "input_ids": golden["input_ids"].where(mask, 0),
        "attention_mask": mask.long(),
        "pixel_values": golden["pixel_values"],
        "image_grid_thw": golden["image_grid_thw"],
        "rgb": golden["traj_images_u8"].movedim(-1, 2),
        "actions": golden["traj_poses"] / SCALE,
        "frame_mask": frames < golden["video_frame_num"][:, None],
        "noise": golden["noise"].unflatten(0, (2, 2)),
    }
    if system1 == "navdp_async":
        batch["depth"] = golden["traj_depths_mm"].float() / 1000
        batch["timesteps"] = golden["ddpm_timesteps"].unflatten(0, (2, 2))
    else:
        steps = 1000 - torch.floor(golden["u"] * 1000)
        batch["timesteps"] = steps.unflatten(0, (2, 2))
    return batch


@pytest.mark.parametrize("frozen", [True, False])
def test_a_released_folder_has_the_loss_and_plans_of_the_reference(
    released_folder, model, system1, frozen
):
    golden = load_file(GOLDEN / f"full_model_tiny_{system1}.safetensors")
    assert model.name_or_path == str(released_folder)  # its licence follows from there
    model.system2.requires_grad_(not frozen)
    with torch.no_grad():
        output = model(**golden_batch(golden, system1))
    torch.testing.assert_close(output.plan, golden["traj_hidden"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.loss, golden["loss"].squeeze(), atol=1e-5, rtol=0)


def test_a_session_leaves_the_plan_that_the_reference_generates(model, system1):
    golden = load_file(GOLDEN / f"full_model_tiny_{system1}.safetensors")
    ids = golden["input_ids"][0, : int(golden["t_s_pos"][0])]
    num_images = int((ids == 151652).sum())
    grids = golden["image_grid_thw"][:num_images]
    patches = golden["pixel_values"][: int(grids.prod(1).sum())]
    session = System2Session(model.system2)
    images = {"pixel_values": patches.numpy(), "image_grid_thw": grids.numpy()}
    session.extend([{"input_ids": ids.numpy(), **images}])
    torch.testing.assert_close(model.plan(session), golden["generated_latents"], atol=1e-5, rtol=0)


def test_loaded_released_saved_as_ours_it_is_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = DualSystemModel.from_pretrained(tmp_path).state_dict()
    assert model.state_dict().keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())


TEXT_7B = {"vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944}
TEXT_7B |= {"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}
VISION_7B = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420}
VISION_7B |= {"out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31]}


@pytest.mark.parametrize("variant", [*SYSTEM1, "nextdit"])
def test_the_released_7b_key_lists_fit_strictly(variant, tmp_path):
    listed = json.loads((GOLDEN / f"keys_{variant}.json").read_text())["tensors"]
    released = {key: torch.empty(shape, device="meta") for key, (_, shape) in listed.items()}
    config = released_config(TEXT_7B, VISION_7B, variant)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with torch.device("meta"), no_init_weights():
        model = DualSystemModel(DualSystemConfig.from_pretrained(tmp_path))
    assert convert_released(released, model).keys() == model.state_dict().keys()
    with pytest.raises(ValueError, match=r"unexpected 1 key\(s\)"):
        convert_released(released | {"model.traj_dit.unheard_of": torch.empty(1)}, model)
    del released["model.latent_queries"]
    with pytest.raises(ValueError, match=r"lacks 1 key\(s\): latent_queries.weight"):
        convert_released(released, model)


@pytest.mark.parametrize("variant", SYSTEM1)
def test_an_expert_alone_takes_its_part_of_a_released_checkpoint(variant, tmp_path):
    listed = json.loads((GOLDEN / f"keys_{variant}.json").read_text())["tensors"]
    parts = ("traj_dit", "action_", "cond_projector", "rgb_model", "memory_enc", "rgb_resampler")
    prefix = "model.navdp." if variant == "navdp_async" else "model."
    released = {
        key.removeprefix(prefix): torch.empty(shape, device="meta")
        for key, (_, shape) in listed.items()
        if key.startswith(
            "model.navdp." if variant == "navdp_async" else tuple(f"model.{p}" for p in parts)
        )
    }
    config = released_config(TEXT_7B, VISION_7B, variant)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with torch.device("meta"), no_init_weights():
        expert = DualSystemModel(DualSystemConfig.from_pretrained(tmp_path)).action_expert
    assert convert_released(released, expert).keys() == expert.state_dict().keys()
