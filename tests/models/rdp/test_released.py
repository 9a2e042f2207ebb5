"""Released RDP checkpoints load strictly, with their mistakes; others say what is wrong."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from internnav_hf.models.rdp.config import PUBLISHED_MISTAKES
from internnav_hf.models.rdp.model import RDPModel
from internnav_hf.models.rdp.released import released_rdp_keys
from internnav_hf.weights.loading import check_fit
from tests.tiny.rdp_golden import SMALL, SMALL_FIELDS, released_weights
from tests.tiny.vln import tiny_cma
from tests.tiny.vln_golden import GOLDEN

IN_HALF = ".resblocks."


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return released_weights(SMALL)


def write_folder(folder, weights: dict[str, Tensor], with_config: bool = True):
    """As on the Hub: CLIP's linear layers in half precision."""
    half = {key: value.half() if IN_HALF in key else value for key, value in weights.items()}
    torch.save(half, folder / "pytorch_model.bin")
    if with_config:
        told = json.loads((GOLDEN / f"{SMALL}.json").read_text())["constructor"]
        config = {"architectures": ["RDPNet"], "model_type": "rdp"}
        config["model_cfg"] = {"model": told["model_cfg.model"], "il": {"epochs": 50}}
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_released_folder_loads(weights, tmp_path):
    model = RDPModel.from_pretrained(write_folder(tmp_path, weights))
    config = model.config
    assert {name: getattr(config, name) for name in PUBLISHED_MISTAKES} == PUBLISHED_MISTAKES
    for name, value in SMALL_FIELDS.items():
        if isinstance(value, int) and not isinstance(value, bool):
            assert getattr(config, name) == value, name
    for tower in ("text_config", "vision_config"):
        for name, value in SMALL_FIELDS[tower].items():
            assert getattr(getattr(config, tower), name) == value, name
    assert (config.displacement_min, config.displacement_max) == (
        (-0.25, -0.25, -0.27),
        (0.25, 0.25, 0.27),
    )
    assert config.stop_loss_weight == 10
    assert not model.training
    assert all(p.dtype == torch.float32 for p in model.parameters())
    linear = "instruction_encoder.text_transformer.transformer.resblocks.1.mlp.c_fc.weight"
    ours = model.text_encoder.encoder.layers[1].mlp.fc1.weight
    assert_close(ours, weights[linear].half().float(), atol=0, rtol=0)
    # position ids, which files do not have, are there
    assert model(**model.dummy_inputs).loss.isfinite()


def test_what_is_saved_is_ours_and_keeps_its_mistakes(weights, tmp_path):
    released, ours = tmp_path / "released", tmp_path / "ours"
    released.mkdir()
    model = RDPModel.from_pretrained(write_folder(released, weights))
    model.save_pretrained(ours)
    again = RDPModel.from_pretrained(ours)
    assert again.config.guidance_mask == "additive"
    assert again.config.displacement_max == model.config.displacement_max
    expected = model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in again.state_dict().items())


def test_a_file_without_configuration_and_other_fields(weights, tmp_path):
    save_file(weights, tmp_path / "model.safetensors")
    model = RDPModel.from_pretrained(
        tmp_path / "model.safetensors",
        num_cross_modal_attention_heads=4,
        guidance_mask="drop",
        padded_loss=False,
    )
    assert model.config.guidance_mask == "drop"
    assert not model.config.padded_loss
    assert model.config.guidance_drifts


def test_the_released_names_and_shapes_are_all_known():
    shapes = json.loads((GOLDEN / "keys_rdp.json").read_text())["keys"]
    assert len(shapes) == 694
    with torch.device("meta"):
        model = RDPModel(RDPModel.config_class())
        weights = {key: torch.empty(shape) for key, shape in shapes.items()}
        check_fit("keys_rdp", released_rdp_keys(weights), model)
    assert sum(p.numel() for p in model.parameters()) > 200_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("imu_linear.bias"), r"lacks 1 key.*pose_embedding\.bias"),
        (lambda w: w.update({"extra.weight": torch.zeros(1)}), "unexpected 1 key.*extra"),
        (
            lambda w: w.update({"imu_linear_dp.bias": torch.zeros(3)}),
            r"other shapes for 1 key.*pose_token\.bias",
        ),
    ],
)
def test_keys_that_do_not_fit_are_one_error(weights, tmp_path, change, message):
    changed = dict(weights)
    change(changed)
    torch.save(changed, tmp_path / "rdp.pth")
    with pytest.raises(ValueError, match=message):
        RDPModel.from_pretrained(tmp_path / "rdp.pth")


def test_leftovers_can_be_named(weights, tmp_path):
    torch.save(weights | {"extra.weight": torch.zeros(1)}, tmp_path / "rdp.pth")
    RDPModel.from_pretrained(tmp_path / "rdp.pth", unused=("extra.",))


def test_frozen_encoders_may_be_left_out_and_filled_from_elsewhere(weights, tmp_path):
    depth = "image_encoder.depth_encoder.visual_encoder."
    rest = {key: value for key, value in weights.items() if not key.startswith(depth)}
    torch.save(rest, tmp_path / "rdp.pth")
    with pytest.raises(ValueError, match="depth_encoder.*left out.*encoders="):
        RDPModel.from_pretrained(tmp_path / "rdp.pth")
    prefix = "actor_critic.net.visual_encoder."
    policy = {k.replace(depth, prefix): v for k, v in weights.items() if k.startswith(depth)}
    torch.save({"state_dict": policy}, tmp_path / "ddppo.pth")
    filled = RDPModel.from_pretrained(
        tmp_path / "rdp.pth", encoders={"depth_encoder": tmp_path / "ddppo.pth"}
    )
    key = "backbone.conv1.0.weight"
    assert_close(filled.depth_encoder.state_dict()[key], weights[depth + key])


def test_a_checkpoint_of_another_variant_is_an_error(tmp_path):
    save_file({"second_state_encoder.rnn.bias_ih_l0": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="found a CMA, expected a RDP"):
        RDPModel.from_pretrained(tmp_path / "a.safetensors")
    tiny_cma().save_pretrained(tmp_path / "cma")
    with pytest.raises(ValueError, match="Found a checkpoint of internnav_cma"):
        RDPModel.from_pretrained(tmp_path / "cma")
