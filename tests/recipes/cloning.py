"""Tiny data and sizes of a tiny agent, cloned by the recipe."""

import json
from copy import deepcopy
from pathlib import Path

import yaml

from internnav_hf.policies.loading import load_policy
from internnav_hf.training.ddppo import DDPPOArguments
from recipes import train_cloning as recipe
from tests.recipes import vln
from tests.recipes.launch import TINY, command_line
from tests.tiny.ddppo import SIZES

KINDS = (DDPPOArguments, recipe.DataArguments, recipe.CloningTrainingArguments)
GROUPS = vln.SCANS
HELD_OUT = {"eval_groups": [GROUPS[1]], "num_eval_samples": 4}


def write_base(folder: Path) -> Path:
    """Two scans of two scenes with two walks of discrete steps, and sizes."""
    vln.write_base(folder)
    (folder / "ddppo.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(deepcopy(SIZES)))))
    return folder


def options(base: Path, output_dir: Path, **changes) -> list[str]:
    """The recipe's command line; an option that is None is left out, a list is spelt out."""
    own = {
        "data_root": base / "data",
        "groups": [GROUPS[0]],
        "model_config": base / "ddppo.yaml",
        "output_dir": output_dir,
        "cache_dir": base / "cache",
    }
    return command_line(TINY | own | changes)


def check(base: Path, output_dir: Path) -> None:
    """Steps and camera are the data's; a policy opens from model and checkpoint."""
    for folder in (output_dir, output_dir / "checkpoint-2"):
        policy = load_policy(folder)
        assert (policy.camera.width, policy.camera.height_m) == (vln.CAMERA.width, 1.25)
        config = policy.model.config
        assert (config.forward_step_m, config.turn_angle_deg) == (0.25, 15.0)
    assert f"`{GROUPS[0]}`" in (output_dir / "README.md").read_text()
