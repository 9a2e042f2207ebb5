"""Tiny data and sizes of tiny models, for the recipe of GNM, ViNT and NoMaD."""

import json
from copy import deepcopy
from pathlib import Path

import yaml

from internnav_hf.policies.loading import load_policy
from recipes import train_image_goal as recipe
from tests.data.vln_n1 import write_root
from tests.recipes.launch import TINY, command_line
from tests.tiny.gnm import SIZES

KINDS = (recipe.ModelArguments, recipe.DataArguments, recipe.ImageGoalTrainingArguments)
GROUPS = ("simulated_train", "simulated_val_unseen")
HELD_OUT = {"eval_groups": [GROUPS[1]], "num_eval_samples": 6}


def write_base(folder: Path) -> Path:
    """Two groups of two scenes of three episodes each in `folder`, and sizes of tiny models."""
    write_root(folder / "data", GROUPS)
    for name, sizes in SIZES.items():
        plain = json.loads(json.dumps(deepcopy(sizes)))  # YAML has no tuples
        if name != "gnm":
            plain["dropout"] = 0.0
            plain["vision_config"] |= {"dropout_rate": 0.0, "drop_connect_rate": 0.0}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(plain))
    return folder


def options(base: Path, output_dir: Path, model: str = "nomad", **changes) -> list[str]:
    """The recipe's command line; an option that is None is left out, a list is spelt out."""
    own = {
        "model": model,
        "data_root": [base / "data"],
        "groups": [GROUPS[0]],
        "model_config": base / f"{model}.yaml",
        "end_slack": [20],
        "output_dir": output_dir,
        "cache_dir": base / "cache",
    }
    return command_line(TINY | own | changes)


def check(base: Path, output_dir: Path) -> None:
    """Spacing and camera are the data's; a policy opens from model and checkpoint."""
    for folder in (output_dir, output_dir / "checkpoint-2"):
        policy = load_policy(folder)
        assert policy.camera.height_m == 0.5
        assert 0.05 < policy.step_m < 0.07
    assert "`simulated_train`" in (output_dir / "README.md").read_text()
