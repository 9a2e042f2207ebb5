"""What the planners' recipe alone does: published settings, plateau, batch norm, mirrored views."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import TrainerControl, TrainerState

from internnav_hf.arguments.training import parse_arguments
from internnav_hf.data.cost_maps.geometric import VIPLANNER, GeometricSettings
from internnav_hf.data.cost_maps.semantic import SemanticSettings
from internnav_hf.models.planners.config import ViPlannerConfig, iPlannerConfig
from internnav_hf.policies.goals import PointGoal
from internnav_hf.policies.loading import load_policy
from internnav_hf.training.planners import (
    EndAtLowestRate,
    FreezeStatistics,
    map_settings,
    read_noise,
    seen_fields,
    start_planner,
)
from internnav_hf.training.tuning import parameter_groups
from tests.recipes.launch import history
from tests.recipes.planner import GROUPS, KINDS, held_out, options, recipe, write_base
from tests.tiny.planners import planner_batch, tiny_iplanner, tiny_viplanner


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("planner"))


def train(arguments: list[str]) -> None:
    recipe.main(*parse_arguments(KINDS, arguments))


def parse(*arguments: str):
    return parse_arguments(KINDS, ["--data_root=d", "--use_cpu", *arguments])


def test_the_published_settings():
    _, data_args, args = parse()
    assert (args.optim, args.learning_rate, args.weight_decay) == ("adamw_torch", 1e-4, 1e-3)
    assert (args.per_device_train_batch_size, args.num_train_epochs) == (128, 50)
    assert args.lr_scheduler_type == "reduce_lr_on_plateau"
    assert args.lr_scheduler_kwargs == {"factor": 0.1, "patience": 4, "min_lr": 1e-6}
    assert (args.metric_for_best_model, args.load_best_model_at_end) == ("loss", True)
    assert (data_args.pairs, data_args.held_out_fraction, data_args.frame_stride) == (None, 0.1, 1)
    config = iPlannerConfig()
    weights = ("obstacle", "height", "motion", "goal", "fear")
    assert [getattr(config, f"{name}_loss_weight") for name in weights] == [0.5, 1, 2, 5, 1]
    assert (config.max_depth_m, config.fear_distance_m, config.fear_threshold) == (10, 2, 0.5)


def test_norms_and_biases_decay_as_executed():
    assert [parse(f"--published={p}")[-1].decays_vectors for p in ("documented", "executed")] == [
        False,
        True,
    ]
    groups = parameter_groups(tiny_iplanner(), 1e-4, {}, 1e-3, decays_vectors=True)
    assert [group["weight_decay"] for group in groups] == [1e-3]


def test_the_published_settings_of_viplanner():
    _, data_args, args = parse("--planner=viplanner")
    assert (args.optim, args.learning_rate, args.weight_decay) == ("sgd", 2e-3, 1e-4)
    assert (args.per_device_train_batch_size, args.num_train_epochs, args.momentum) == (
        64,
        100,
        0.1,
    )
    assert args.lr_scheduler_kwargs == {"factor": 0.5, "patience": 3, "min_lr": 1e-5}
    rules = data_args.rules
    assert (rules.farthest_m, rules.kind_shares) == (15, (0.96, 0.03, 0.01))
    config = ViPlannerConfig()
    weights = ("obstacle", "height", "motion", "goal", "fear")
    assert [getattr(config, f"{name}_loss_weight") for name in weights] == [0.25, 1, 1.5, 4, 1]
    assert (config.max_depth_m, config.fear_distance_m, config.fear_threshold) == (15, 2.5, 1.7)


@pytest.mark.parametrize("planner", ["iplanner", "viplanner"])
def test_the_losses_fall(base, tmp_path, planner):
    run = {"max_steps": 60, "learning_rate": 2e-3, "logging_steps": 15, "save_steps": 60}
    run |= {"per_device_train_batch_size": 8, "optim": "adamw_torch"}
    train(options(base, tmp_path, planner, **run))
    for name in ("loss", "goal_loss"):
        losses = history(tmp_path, name)
        assert losses[-1] < 0.9 * losses[0], name


def test_a_checkpoint_can_be_trained_on(base, tmp_path):
    train(options(base, tmp_path / "first", max_steps=1))
    further = {"model": tmp_path / "first", "model_config": None, "learning_rate": 1e-9}
    train(options(base, tmp_path / "second", max_steps=1, **further))
    first, second = (load_file(tmp_path / f / "model.safetensors") for f in ("first", "second"))
    for name, value in first.items():
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)


def test_as_published_with_a_plateau_and_the_best_model(base, tmp_path):
    run = {
        "max_steps": None,
        "num_train_epochs": 2,
        "lr_scheduler_type": None,
        "load_best_model_at_end": None,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "held_out_fraction": 0.1,
        "learning_rate": None,
        "per_device_train_batch_size": None,
        "num_eval_samples": 8,
        "published": "executed",
    }
    train(options(base, tmp_path, **run))
    assert len(history(tmp_path, "eval_map_cost")) >= 2
    assert history(tmp_path, "learning_rate")[-1] == 1e-4


def test_training_ends_when_the_rate_cannot_fall_any_more():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], 1e-4)
    schedule = ReduceLROnPlateau(optimizer, factor=0.1, patience=1, min_lr=1e-5)
    args = SimpleNamespace(metric_for_best_model="loss")
    end, losses, ended = EndAtLowestRate(), [1.0] * 4 + [0.5] * 4, []
    for loss in losses:
        control = TrainerControl()
        given = {"lr_scheduler": schedule, "metrics": {"eval_loss": loss}}
        end.on_evaluate(args, None, control, **given)
        ended.append(control.should_training_stop)
        schedule.step(loss)
    # the best, two without gain, a lower rate, one without gain, a gain, one without; one more
    # would lower the rate again
    assert ended.index(True) == 6


def test_frozen_statistics_stay_and_the_rest_learns():
    model = tiny_iplanner().train()
    FreezeStatistics().on_evaluate(None, None, None, model=model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    model(**planner_batch(model)).loss.backward()
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before if "running_" in key)
    assert model.training
    for log, is_frozen in (([], False), ([{"loss": 1.0}, {"eval_loss": 1.0}], True)):
        state = TrainerState(log_history=log)  # of a run that begins, or goes on
        FreezeStatistics().on_train_begin(None, state, None, model=model)
        assert model.statistics_are_frozen == is_frozen
    assert model.encoder.encoder.stages[1].layers[0].shortcut.normalization.weight.grad is not None


def test_momentum_is_sgds(base, tmp_path):
    for planner, told in (("viplanner", {"optim": "sgd"}), ("iplanner", {})):
        out = tmp_path / planner
        train(options(base, out, planner, max_steps=1, save_steps=1, **told))
        state = torch.load(out / "checkpoint-1" / "optimizer.pt", weights_only=True)
        momentum = [group.get("momentum") for group in state["param_groups"]]
        assert set(momentum) == ({0.1} if planner == "viplanner" else {None})


def test_a_planner_starts_from_released_weights(tmp_path):
    from tests.models.planners.test_released import FIELDS, released

    torch.save((released(tiny_iplanner()), 0.1), tmp_path / "plannernet.pt")
    found = start_planner("iplanner", FIELDS, str(tmp_path / "plannernet.pt"))
    weights = tiny_iplanner().state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in found.state_dict().items())
    with pytest.raises(ValueError, match="expected ViPlanner"):
        start_planner("viplanner", {}, str(tmp_path / "plannernet.pt"))


def test_maps_are_the_planners_own():
    assert map_settings(tiny_iplanner()) == GeometricSettings()
    assert map_settings(tiny_viplanner()) == SemanticSettings()
    assert map_settings(tiny_viplanner(use_semantics=False)) == VIPLANNER
    assert map_settings(tiny_iplanner(), rule="viplanner") == VIPLANNER
    with pytest.raises(ValueError, match="--map_rule: found iplanner, expected none"):
        map_settings(tiny_viplanner(), rule="iplanner")


def test_options_that_would_change_nothing_are_named():
    for option, value, told in (
        ("planner", "iplanner", "iPlanner sees depth alone"),
        ("model", "CHECKPOINT", "a checkpoint says what it sees"),
    ):
        given = {"planner": "viplanner", "second_image": "rgb", "model": None, option: value}
        with pytest.raises(ValueError, match=f"--second_image: found rgb, expected none: {told}"):
            seen_fields(**given)
    assert seen_fields("viplanner", "rgb", None) == {"use_semantics": False, "use_rgb": True}
    with pytest.raises(ValueError, match="--follows_ground: found True, expected False"):
        map_settings(tiny_iplanner(), follows_ground=True)
    ahead, graph = parse("--pose_spacing=0.5")[1], parse("--frame_stride=2")[1]
    with pytest.raises(ValueError, match="--pose_spacing: found 0.5, expected 0.0: .* graph"):
        ahead.pairs_for("iplanner")
    with pytest.raises(ValueError, match="--frame_stride: found 2, expected 1: .* ahead"):
        graph.pairs_for("viplanner")
    assert (ahead.pairs_for("viplanner"), graph.pairs_for("iplanner")) == ("graph", "ahead")


def test_a_viplanner_of_colours_trains_and_drives_with_colours_and_depth_alone(base, tmp_path):
    """Walks with colours but without classes, whose maps are made of shapes."""
    walks = {"data_root": base / "iplanner", "groups": GROUPS["iplanner"][0], "max_steps": 1}
    with pytest.raises(ValueError, match="scene_0: semantics: found no images, expected"):
        train(options(base, tmp_path, "viplanner", **walks))
    train(options(base, tmp_path, "viplanner", second_image="rgb", **walks))
    policy = load_policy(tmp_path)
    assert not policy.needs_semantics
    seen = {"rgb": np.full((48, 64, 3), 90, np.uint8), "depth": np.full((48, 64), 3, np.float32)}
    paths = [
        policy.act(seen | {"rgb": rgb}, PointGoal((2.0, 0.0))).path
        for rgb in (seen["rgb"], 255 - seen["rgb"])
    ]
    assert not np.array_equal(*paths)
    assert "depth and RGB images" in (tmp_path / "README.md").read_text()


def test_held_out_environments_are_told(base):
    assert held_out("viplanner")["eval_groups"] == "two"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth_pixels: 2", "depth_pixels: found 2, expected a share"),
        ("depth_polygons: many", "depth_polygons: found 'many', expected a number"),
        ("depth_pixel: 0.1", "there is no depth_pixel. It has depth_pixels"),
    ],
)
def test_what_is_wrong_in_a_file_of_noise_is_told(tmp_path, text, message):
    file = tmp_path / "noise.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_noise(file)
    assert str(file) in str(caught.value)
