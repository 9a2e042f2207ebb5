"""A tiny dataset with depth, a tiny System2 and tiny experts, for the dual system's recipe."""

import json
from pathlib import Path

from internnav_hf import DualSystemModel, DualSystemPolicy, System2Model
from recipes import train_dual_system as recipe
from tests.data.vln_ce import straight_episode, write_depth, write_scene
from tests.recipes.launch import TINY, command_line, history, parameter_groups
from tests.tiny.system2 import tiny_processor, tiny_system2

KINDS = (recipe.ModelArguments, recipe.DataArguments, recipe.DualTrainingArguments)
MOVING = {"lora_rank": 2, "distillation_weight": 1.0}  # System2 learns, and is held
SIZE = (112, 84)
VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
NEXTDIT = {
    "image_size": 28,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "condition_size": 32,
    "vision_config": VISION,
    "num_memory_layers": 1,
    "num_memory_heads": 2,
    "memory_intermediate_size": 32,
    "num_resampler_layers": 1,
    "num_resampler_heads": 2,
    "resampler_intermediate_size": 32,
    "num_resampler_queries": 4,
    "dropout": 0.0,
}
NAVDP = {
    "image_size": 28,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_rgbd_queries": 4,
    "num_rgbd_layers": 1,
    "num_rgbd_attention_heads": 2,
    "rgbd_intermediate_size": 32,
    "vision_config": VISION,
    "depth_vision_config": VISION,
    "num_plan_positions": 8,
    "dropout": 0.0,
}
EXPERTS = {"nextdit_async": NEXTDIT, "navdp_async": NAVDP, "nextdit": NEXTDIT}


def write_base(folder: Path) -> Path:
    """`folder` with r2r (two scenes), r2r_val_unseen, system2 and an expert file for each name."""
    for scene, indices in {
        "r2r/a": [0, 1, 2],
        "r2r/b": [3, 4, 5],
        "r2r_val_unseen/c": [6, 7],
    }.items():
        # of different lengths, so that samples have different numbers of frames
        episodes = [straight_episode(index, length=12 + index) for index in indices]
        write_scene(folder / scene, episodes, size=SIZE)
        for episode in episodes:
            write_depth(folder / scene, episode, SIZE)
    tiny_system2().save_pretrained(folder / "system2")
    tiny_processor().save_pretrained(folder / "system2")
    for name, fields in EXPERTS.items():
        (folder / f"{name}.json").write_text(json.dumps(fields))
    return folder


def options(base: Path, output_dir: Path, system1: str = "nextdit_async", **changes) -> list[str]:
    """The recipe's command line; an option that is None is left out."""
    own = {
        "system1": system1,
        "data_root": base,
        "datasets": "r2r_125cm_0_30",
        "system2": base / "system2",
        "action_expert_config": base / f"{system1}.json",
        "vision_encoder": "random",
        "output_dir": output_dir,
        "cache_dir": base / "cache",
    }
    return command_line(TINY | own | changes)


def check(base: Path, output_dir: Path) -> None:
    """The expert and the queries have learnt, System2 has not."""
    assert not history(output_dir, "latent_drift")
    groups = parameter_groups(output_dir)
    assert groups["latent_queries"] == {"0.001"}
    # NavDP*'s colour encoder stays frozen, as published
    is_navdp = "navdp" in (output_dir / "config.json").read_text()
    assert groups["action_expert"] == ({"0.001", "frozen"} if is_navdp else {"0.001"})
    assert set().union(*(r for name, r in groups.items() if "system2" in name)) == {"frozen"}
    model = DualSystemModel.from_pretrained(output_dir)
    start = System2Model.from_pretrained(base / "system2").state_dict()
    for name, value in model.system2.state_dict().items():
        assert value.equal(start[name]), name
    assert DualSystemPolicy.from_pretrained(output_dir).processor.camera["height_m"] == 1.25
    assert "DualSystemPolicy" in (output_dir / "README.md").read_text()
