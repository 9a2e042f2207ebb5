"""Released NavDP files of both layouts load strictly; others say what is wrong."""

import os

import pytest
import torch
from safetensors.torch import save_file

from internnav_hf.models.navdp.config import NavDPConfig
from internnav_hf.models.navdp.model import NavDPModel
from internnav_hf.models.navdp.released import released_fields
from tests.tiny.navdp import SIZES, tiny_navdp_model_config
from tests.tiny.navdp_golden import INTERNNAV, REPOSITORY, released_shapes
from tests.tiny.navdp_released import tiny_released
from tests.tiny.released import convert_released

CONDITION = "cond_pos_embed.position_embedding.weight"


@pytest.mark.parametrize("layout", [INTERNNAV, REPOSITORY])
@pytest.mark.parametrize("name", ["navdp.ckpt", "model.safetensors", "folder/pytorch_model.bin"])
def test_a_released_file_or_folder_loads(layout, name, tmp_path):
    model, released = tiny_released(layout)
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    if file.suffix == ".safetensors":
        save_file(released, file)
    else:
        torch.save(released, file)
    path = file if file.parent == tmp_path else file.parent
    fields = {name: value for name, value in SIZES.items() if name != "action_horizon"}
    loaded = NavDPModel.from_pretrained(path, **fields, num_memory_frames=8)
    assert loaded.config.channel_order == {INTERNNAV: "rgb", REPOSITORY: "bgr"}[layout]
    assert loaded.config.has_auxiliary_heads == (layout == INTERNNAV)
    assert loaded.config.action_horizon == 6
    assert not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    loaded.save_pretrained(tmp_path / "ours")
    again = NavDPModel.from_pretrained(tmp_path / "ours", dtype=torch.bfloat16)
    assert again.config.channel_order == loaded.config.channel_order
    assert again.dtype == torch.bfloat16


@pytest.mark.parametrize("layout", [INTERNNAV, REPOSITORY])
def test_the_released_key_lists_fit_strictly(layout):
    released = {
        key: torch.empty(shape, device="meta") for key, shape in released_shapes(layout).items()
    }
    config = NavDPConfig(**released_fields(released, "given"))
    defaults = NavDPConfig().to_dict() | {
        "channel_order": "rgb" if layout == INTERNNAV else "bgr",
        "has_auxiliary_heads": layout == INTERNNAV,
    }
    assert config.to_dict() == defaults
    with torch.device("meta"):
        model = NavDPModel(config)
    assert convert_released(released, model).keys() == model.state_dict().keys()
    with pytest.raises(ValueError, match=r"unexpected 1 key\(s\): stranger"):
        convert_released(released | {"stranger": torch.empty(1)}, model)
    del released["critic_head.bias"]
    with pytest.raises(ValueError, match=r"lacks 1 key\(s\): critic_head.bias"):
        convert_released(released, model)


def test_sizes_are_read_from_shapes():
    shapes = released_shapes(INTERNNAV)
    shapes["pixel_encoder.pixelgoal_encoder.patch_embed.proj.weight"][1] = 7
    shapes["out_pos_embed.position_embedding.weight"][0] = 16
    released = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    config = NavDPConfig(**released_fields(released, "given"))
    assert (config.num_pixel_goal_channels, config.action_horizon) == (7, 16)


def test_the_older_checkpoint_is_one_clear_error(tmp_path):
    released = dict(tiny_released(REPOSITORY)[1])
    released[CONDITION] = released[CONDITION][:-2]
    torch.save(released, tmp_path / "navdp-weights.ckpt")
    with pytest.raises(ValueError, match=r"navdp-weights.ckpt.*found 7 tokens, expected 9.*older"):
        NavDPModel.from_pretrained(tmp_path)


def test_what_does_not_fit_names_the_file(tmp_path):
    released = tiny_released()[1]
    file = tmp_path / "navdp.ckpt"
    torch.save(released | {"stranger": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=r"navdp.ckpt does not fit.*unexpected 1 key.*stranger"):
        NavDPModel.from_pretrained(file, config=tiny_navdp_model_config())
    torch.save({"weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="navdp.ckpt holds no NavDP"):
        NavDPModel.from_pretrained(file)
    for found, content in (("list", [1]), ("int", {"a": 1})):
        torch.save(content, file)
        with pytest.raises(ValueError, match=f"navdp.ckpt: found {found}, expected a dict of"):
            NavDPModel.from_pretrained(file)


class Harmful:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: str):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_nothing_is_run_from_a_file_and_a_broken_one_is_named(tmp_path):
    file, harm = tmp_path / "navdp.ckpt", tmp_path / "harm"
    torch.save({"a": Harmful(str(harm))}, file)
    with pytest.raises(ValueError, match=r"navdp.ckpt: found a posix.mkdir, expected a dict of"):
        NavDPModel.from_pretrained(file)
    assert not harm.exists()
    torch.save(tiny_released()[1], file)
    for name, content in (("ckpt", file.read_bytes()[:5000]), ("pth", b""), ("safetensors", b"x")):
        broken = tmp_path / f"broken.{name}"
        broken.write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"broken.{name}: found .*, expected a file of tensors only"
        ):
            NavDPModel.from_pretrained(broken)


def test_a_folder_with_two_files_and_a_file_of_another_kind(tmp_path):
    for name in ("a.ckpt", "b.ckpt"):
        torch.save({}, tmp_path / name)
    with pytest.raises(ValueError, match=r"\['a.ckpt', 'b.ckpt'\]: name one"):
        NavDPModel.from_pretrained(tmp_path)
    (tmp_path / "weights.onnx").touch()
    with pytest.raises(ValueError, match="found a .onnx file"):
        NavDPModel.from_pretrained(tmp_path / "weights.onnx")
