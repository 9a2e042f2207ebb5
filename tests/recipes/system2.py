"""Tiny data and a tiny VLM, for System2's recipe."""

from pathlib import Path

from internnav_hf import System2Policy
from recipes import train_system2 as recipe
from tests.data.vln_ce import straight_episode, write_scene
from tests.recipes.launch import TINY, command_line, parameter_groups
from tests.tiny.system2 import tiny_processor, tiny_system2

KINDS = (recipe.ModelArguments, recipe.DataArguments, recipe.System2TrainingArguments)


def write_base(folder: Path) -> Path:
    """`folder` with two training scenes, a held-out one and a tiny VLM."""
    for scene, indices in {"r2r/a": [0, 1, 2], "r2r/b": [3, 4], "r2r_val_unseen/c": [5, 6]}.items():
        episodes = [straight_episode(index, instruction=f"Walk to {index}.") for index in indices]
        write_scene(folder / scene, episodes, size=(112, 84))
    tiny_system2(use_pixel_goal_head=False).save_vlm(folder / "vlm")
    tiny_processor().save_pretrained(folder / "vlm")
    return folder


def options(base: Path, output_dir: Path, **changes) -> list[str]:
    """The recipe's command line."""
    own = {
        "data_root": base,
        "datasets": "r2r_125cm_0_30",
        "vlm": base / "vlm",
        "output_dir": output_dir,
        "cache_dir": base / "cache",
        "vision_tower_learning_rate": 1e-4,
        "pixel_goal_loss_weight": 1,
        "head_hidden_size": 32,
    }
    return command_line(TINY | own | changes)


def check(base: Path, output_dir: Path) -> None:
    """All that inference needs is there, also in checkpoints."""
    for folder in (output_dir, output_dir / "checkpoint-2"):
        policy = System2Policy.from_pretrained(folder)
        assert policy.model.config.image_width == 112
        assert policy.processor.camera["height_m"] == 1.25
        assert policy.processor.num_history == 2
    assert set(parameter_groups(output_dir)) == {
        "vlm.model.visual",
        "vlm.model.visual.merger",
        "vlm.model.language_model",
        "pixel_goal_head",
    }
