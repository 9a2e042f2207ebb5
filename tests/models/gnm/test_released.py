"""Released files of GNM, ViNT and NoMaD load strictly, pickled modules without their classes."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from internnav_hf.models.gnm.released import released_fields, released_keys
from internnav_hf.policies import family_of_checkpoint
from internnav_hf.policies.loading import load_policy
from tests.tiny.gnm import CLASSES, SIZES, tiny_image_goal
from tests.tiny.gnm_golden import released_shapes
from tests.tiny.released import convert_released

LISTS = ("gnm", "vint", "vint_late_fusion", "nomad")
FAMILIES = {"gnm": "GNM", "vint": "ViNT", "nomad": "NoMaD"}


def family(name: str) -> str:
    return name.partition("_")[0]


def meta(name: str) -> dict[str, torch.Tensor]:
    return {k: torch.empty(s, device="meta") for k, s in released_shapes(name).items()}


def tiny_released(name: str, **fields):
    """A tiny model, and its weights under the released names that it has."""
    model = tiny_image_goal(family(name), **fields)
    ours, released = model.state_dict(), {}
    for key in released_shapes(name):
        (new,) = released_keys({key: torch.zeros(1)}, model.config) or (None,)
        if key.endswith("pos_enc"):
            released[key] = torch.zeros(1, model.config.num_memory_frames + 1, 32)
        elif new is None:
            released[key] = torch.zeros(3)
        elif new in ours:
            released[key] = ours[new]
    return model, released


def as_module(weights: dict[str, torch.Tensor], kind: type) -> nn.Module:
    """A module of modules with these weights and buffers."""
    top = kind()
    for key, value in weights.items():
        *path, last = key.split(".")
        place = top
        for name in path:
            if name not in place._modules:
                place.add_module(name, kind())
            place = place._modules[name]
        is_buffer = last in ("running_mean", "running_var", "num_batches_tracked", "pos_enc")
        if is_buffer:
            place.register_buffer(last, value)
        else:
            place.register_parameter(last, nn.Parameter(value))
    return top


@pytest.fixture
def foreign(monkeypatch) -> type:
    """A module class that only the pickle's writer has."""
    module = ModuleType("vint_train")
    kind = type("Model", (nn.Module,), {"__module__": "vint_train", "__qualname__": "Model"})
    module.Model = kind
    monkeypatch.setitem(sys.modules, "vint_train", module)
    return kind


@pytest.mark.parametrize("name", LISTS)
def test_the_released_key_lists_fit_strictly(name):
    released = meta(name)
    config_class, model_class = CLASSES[family(name)]
    config = config_class(**released_fields(released, config_class, "given"))
    late = {"late_fusion": True, "num_memory_frames": 1} if "late" in name else {}
    assert config.to_dict() == config_class(**late).to_dict()
    with torch.device("meta"):
        model = model_class(config)
    assert convert_released(released, model).keys() == model.state_dict().keys()
    with pytest.raises(ValueError, match=r"unexpected 1 key\(s\): stranger"):
        convert_released(released | {"stranger": torch.empty(1)}, model)
    lost = next(
        key
        for key in released
        if key.endswith("_encoder._conv_stem.weight") or key == "obs_mobilenet.0.0.weight"
    )
    del released[lost]
    with pytest.raises(ValueError, match=r"lacks 1 key\(s\)"):
        convert_released(released, model)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("parallel", [False, True])
def test_a_released_file_loads(name, parallel, tmp_path, foreign, monkeypatch):
    late = {"late_fusion": True, "num_memory_frames": 1} if "late" in name else {}
    model, released = tiny_released(name, **late)
    if parallel:
        released = {f"module.{key}": value for key, value in released.items()}
    file = tmp_path / f"{name}.pth"
    content = released
    if name != "nomad":
        content = {"epoch": 3, "model": as_module(released, foreign), "optimizer": object}
    torch.save(content, file)
    monkeypatch.delitem(sys.modules, "vint_train")
    assert family_of_checkpoint(file).name == FAMILIES[family(name)]
    sizes = {k: v for k, v in SIZES[family(name)].items() if k != "num_memory_frames"}
    loaded = type(model).from_pretrained(file, **sizes)
    assert loaded.config.num_memory_frames == model.config.num_memory_frames
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in loaded.state_dict().items())
    loaded.save_pretrained(tmp_path / "ours")
    assert type(load_policy(tmp_path / "ours").model) is type(model)


def test_another_model_is_named(tmp_path):
    _, released = tiny_released("vint")
    torch.save(released, tmp_path / "vint.pth")
    with pytest.raises(ValueError, match=r"vint.pth holds no GNM: found a ViNT"):
        CLASSES["gnm"][1].from_pretrained(tmp_path / "vint.pth")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth holds no NoMaD: it lacks noise_pred_net"):
        CLASSES["nomad"][1].from_pretrained(tmp_path / "other.pth")
