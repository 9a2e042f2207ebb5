"""Tiny data and sizes of a tiny model, for NavDP's recipe."""

from pathlib import Path

import yaml

from internnav_hf import NavDPModel
from recipes import train_navdp as recipe
from tests.data.vln_n1 import write_root
from tests.recipes.launch import TINY, command_line
from tests.tiny.navdp import SIZES

KINDS = (recipe.ModelArguments, recipe.DataArguments, recipe.NavDPTrainingArguments)
GROUPS = ("simulated_train", "simulated_val_unseen")
HELD_OUT = {"eval_groups": GROUPS[1], "num_eval_samples": 4, "num_trajectories": 2}


def write_base(folder: Path) -> Path:
    """Two groups of two scenes of three episodes each in `folder`, and a tiny model's sizes."""
    write_root(folder / "data", GROUPS)
    sizes = SIZES | {"num_memory_frames": 2, "dropout": 0.0}
    (folder / "model.yaml").write_text(yaml.safe_dump(sizes))
    return folder


def options(base: Path, output_dir: Path, **changes) -> list[str]:
    """The recipe's command line; an option that is None is left out."""
    own = {
        "data_root": base / "data",
        "model_config": base / "model.yaml",
        "rgb_encoder": "random",
        "published": "executed",
        "groups": GROUPS[0],
        "samples_per_episode": 4,  # 24 samples an epoch
        "output_dir": output_dir,
        "cache_dir": base / "cache",
        "per_device_train_batch_size": 8,
    }
    return command_line(TINY | own | changes)


def check(base: Path, output_dir: Path) -> None:
    """The colour encoder is frozen, as executed; camera and sizes are the run's."""
    assert "frozen" in (output_dir / "parameter_groups.txt").read_text()
    model = NavDPModel.from_pretrained(output_dir)
    assert model.config.camera["height_m"] == 0.5
    assert model.config.num_memory_frames == 2
    assert not model.config.train_rgb_encoder
    assert "`simulated_train`" in (output_dir / "README.md").read_text()
