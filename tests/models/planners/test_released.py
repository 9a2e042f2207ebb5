"""Released planners load strictly, from every form that was published; others say what is wrong."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from internnav_hf.models.planners.model import PlannerModel, ViPlannerModel, iPlannerModel
from internnav_hf.models.planners.released import released_fields
from internnav_hf.policies.loading import family_of_checkpoint
from tests.tiny.planners import (
    SIZES,
    released_name,
    released_shapes,
    small_decoder_shapes,
    tiny_iplanner,
    tiny_viplanner,
)
from tests.tiny.released import convert_released

ENCODER = {name: SIZES[name] for name in ("embedding_size", "hidden_sizes", "depths")}
FIELDS = ENCODER | {name: SIZES[name] for name in ("image_height", "image_width")}
YAML = """config: !!python/object:viplanner.config.learning_cfg.TrainCfg
  data_cfg: !!python/object:viplanner.config.learning_cfg.DataCfg
    max_depth: 12.0
    ratio: !!python/tuple [1, 2]
  fear_ahead_dist: 3.0
  harm: !!python/object/apply:os.mkdir [HARM]
  img_input_size: [96, 128]
  rgb: false
  w_obs: 0.5
loss: {val_loss: 8.098, test_loss: 8.24}
"""


def pickled_module(weights: dict[str, torch.Tensor]) -> nn.Module:
    """A module with these weights."""
    root = nn.Module()
    for key, value in weights.items():
        *parents, name = key.split(".")
        part = root
        for parent in parents:
            if parent not in part._modules:
                part.add_module(parent, nn.Module())
            part = part._modules[parent]
        part.register_buffer(name, value)
    return root


def released(model: PlannerModel) -> dict[str, torch.Tensor]:
    return {released_name(key): value for key, value in model.state_dict().items()}


def assert_same_weights(found: PlannerModel, expected: PlannerModel) -> None:
    weights = expected.state_dict()
    assert found.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in found.state_dict().items())


@pytest.mark.parametrize("form", ["pickled pair", "pair", "state dict", "safetensors", "several"])
@pytest.mark.parametrize("make", [tiny_iplanner, tiny_viplanner])
def test_every_published_form_loads(make, form, tmp_path):
    model = make()
    weights, file = released(model), tmp_path / "plannernet.pt"
    if form == "safetensors":
        file = tmp_path / "model.safetensors"
        save_file(weights, file)
    elif form == "several":
        torch.save({f"module.{key}": value for key, value in weights.items()}, file)
    else:
        content = pickled_module(weights) if form == "pickled pair" else weights
        torch.save(content if form == "state dict" else (content, 8.1), file)
    assert family_of_checkpoint(file).load("model") is type(model)
    assert_same_weights(type(model).from_pretrained(file, **FIELDS), model)
    assert_same_weights(type(model).from_pretrained(tmp_path, **FIELDS), model)


@pytest.mark.parametrize(
    ("shapes", "kind", "fields"),
    [
        (released_shapes("iplanner"), iPlannerModel, {}),
        (released_shapes("viplanner"), ViPlannerModel, {}),
        (released_shapes("viplanner_depth_only"), ViPlannerModel, {"use_semantics": False}),
        (
            small_decoder_shapes(),
            ViPlannerModel,
            {
                "decoder_conv_sizes": (512, 256, 128, 64),
                "decoder_hidden_sizes": (256,),
                "fear_hidden_sizes": (),
            },
        ),
    ],
    ids=["iplanner", "viplanner", "depth-only", "small"],
)
def test_the_released_key_lists_fit_strictly(shapes, kind, fields):
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    config = kind.config_class(**released_fields(kind.config_class, weights, "given"))
    assert config.to_dict() == kind.config_class(**fields).to_dict()
    with torch.device("meta"):
        model = kind(config)
    assert convert_released(weights, model).keys() == model.state_dict().keys()
    with pytest.raises(ValueError, match=r"unexpected 1 key\(s\): stranger"):
        convert_released(weights | {"stranger": torch.empty(1)}, model)
    del weights["decoder.fg.bias"]
    with pytest.raises(ValueError, match=r"lacks 1 key\(s\): decoder.goal_projection.bias"):
        convert_released(weights, model)


def test_the_released_sizes_are_the_published():
    counts = {"iplanner": 53_326_864, "viplanner": 71_045_584, "viplanner_depth_only": 53_325_072}
    for name, count in counts.items():
        kind = iPlannerModel if name == "iplanner" else ViPlannerModel
        fields = {"use_semantics": False} if name.endswith("only") else {}
        with torch.device("meta"):
            model = kind(kind.config_class(**fields))
        assert model.num_parameters() == count
        assert len(model.state_dict()) == len(released_shapes(name))


def test_the_other_planner_is_named(tmp_path):
    torch.save(released(tiny_viplanner()), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model.pt: found ViPlanner, expected iPlanner"):
        iPlannerModel.from_pretrained(tmp_path)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model.pt: found no planner, expected ViPlanner"):
        ViPlannerModel.from_pretrained(tmp_path)


def test_settings_beside_viplanner_are_read_and_their_tags_are_not_run(tmp_path, caplog):
    harm = tmp_path / "harm"
    torch.save((released(tiny_viplanner()), 8.1), tmp_path / "model.pt")
    (tmp_path / "model.yaml").write_text(YAML.replace("HARM", str(harm)))
    config = ViPlannerModel.from_pretrained(tmp_path, **ENCODER).config
    assert not harm.exists()
    assert (config.fear_distance_m, config.fear_threshold) == (3.0, 1.7)
    assert (config.obstacle_loss_weight, config.goal_loss_weight) == (0.5, 4.0)
    assert (config.max_depth_m, config.image_height, config.image_width) == (12.0, 96, 128)
    assert "model.yaml: found no w_height, w_motion, w_goal: the published" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("config: [1", "found .*expected YAML"),
        ("a: 1", "config: found none"),
        ("config: {w_obs: much}", "w_obs: found 'much', expected a number"),
        ("config: {rgb: true}", "rgb: found True"),
        ("config: {img_input_size: 96}", "img_input_size: found 96, expected rows and columns"),
        ("config: {w_goal: [1]}", r"w_goal: found \[1\], expected a number"),
        ("config: {fear_ahead: 3}", "found fear_ahead, expected fear_ahead_dist"),
        ("config: {data_cfg: {max_depths: 3}}", "found max_depths, expected max_depth"),
        ("config: {img_input_size: [a, 3]}", r"img_input_size: found \['a', 3\], expected rows"),
        ("x" * (2 << 20), "found 2097152 bytes"),
    ],
)
def test_broken_settings_are_one_error(text, told, tmp_path):
    torch.save((released(tiny_viplanner()), 8.1), tmp_path / "model.pt")
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"model.yaml: {told}"):
        ViPlannerModel.from_pretrained(tmp_path, **ENCODER)


class Harmful:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: str):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_nothing_is_run_from_a_file(tmp_path):
    file, harm = tmp_path / "plannernet.pt", tmp_path / "harm"
    torch.save((Harmful(str(harm)), 0.1), file)
    with pytest.raises(ValueError, match=r"plannernet.pt: found a posix.mkdir, expected a dict of"):
        iPlannerModel.from_pretrained(file)
    assert not harm.exists()
