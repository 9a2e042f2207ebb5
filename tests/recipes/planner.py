"""Tiny data and sizes of tiny planners, for their recipe."""

from pathlib import Path

import yaml

from internnav_hf import ViPlannerModel, iPlannerModel
from recipes import train_planner as recipe
from tests.data.planner_folders import write_viplanner, write_walks
from tests.recipes.launch import TINY, command_line
from tests.tiny.planners import SIZES

KINDS = (recipe.ModelArguments, recipe.DataArguments, recipe.PlannerTrainingArguments)
GROUPS = {"iplanner": ("simulated_train", "simulated_val_unseen"), "viplanner": ("one", "two")}

LOSSES = ("obstacle_loss", "height_loss", "motion_loss", "goal_loss", "fear_loss")
METRICS = ("eval_map_cost", "eval_goal_error_m", "eval_collision_share", "eval_straight_map_cost")


def write_base(folder: Path) -> Path:
    """For iPlanner two groups of recorded walks, for ViPlanner two environments, and sizes."""
    write_walks(folder / "iplanner", GROUPS["iplanner"])
    for name in GROUPS["viplanner"]:
        write_viplanner(folder / "viplanner", name)
    sizes = {name: v if isinstance(v, int) else list(v) for name, v in SIZES.items()}
    (folder / "model.yaml").write_text(yaml.safe_dump(sizes))
    return folder


def held_out(planner: str) -> dict:
    """Options of an evaluation."""
    return {"eval_groups": GROUPS[planner][1], "num_eval_samples": 4}


def options(base: Path, output_dir: Path, planner: str = "iplanner", **changes) -> list[str]:
    """The recipe's command line; an option that is None is left out."""
    own = {
        "planner": planner,
        "data_root": base / planner,
        "model_config": base / "model.yaml",
        "groups": GROUPS[planner][0],
        "held_out_fraction": 0,
        "output_dir": output_dir,
        "cache_dir": base / "cache",
        "lr_scheduler_type": "constant",
        "load_best_model_at_end": False,
        "eval_strategy": "no",
    }
    return command_line(TINY | own | changes)


def check(base: Path, output_dir: Path) -> None:
    """Camera and sizes are the run's; the model says what it was trained on."""
    config = yaml.safe_load((output_dir / "config.json").read_text())
    kind = {"internnav_iplanner": iPlannerModel, "internnav_viplanner": ViPlannerModel}
    model = kind[config["model_type"]].from_pretrained(output_dir)
    assert model.config.camera["width"] == 64
    assert model.config.image_width == SIZES["image_width"]
    card = (output_dir / "README.md").read_text()
    assert "`simulated_train`" in card or "`one`" in card
