"""What scripts/evaluate.py is asked for in every benchmark."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from internnav_hf.arguments.ranges import check_counts, option

VLN = "vln"
TASKS = ("point-goal", "image-goal", "pixel-goal", "no-goal")  # of visual navigation


@dataclass
class BenchmarkArguments:
    """What to evaluate, where, how."""

    task: list[str] = field(default_factory=list)
    out: str = option("outputs/eval", "Folder of metrics.json, metrics.md and report.html.")
    model: str | None = None
    scenes: int = option(10, "Number of generated scenes.")
    episodes: int = option(10, "Episodes in each scene.")
    seed: int = option(0, "Seed of scenes, episodes, and all that agents draw.")
    scene: str | None = option(None, "A mesh file (GLB, PLY, OBJ) instead of generated scenes.")
    num_parallel: int = option(8, "Robots that a model answers in one call.")
    num_inference_steps: int | None = option(
        None, "Denoising steps of the diffusion; default: the model's own.", low=1
    )
    camera_height_m: float | None = option(
        None, "Instead of the model's camera height.", above=0, high=10
    )
    camera_pitch_deg: float | None = option(None, "Instead of its ordinary pitch.")
    camera_hfov_deg: float | None = option(None, "Instead of its horizontal field of view.")
    trainer_state: str | None = option(None, "A trainer_state.json; its curve joins the report.")

    def __post_init__(self) -> None:
        check_counts(self, "scenes", "episodes", "num_parallel", "num_inference_steps")
        for name in ("trainer_state", "scene"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ValueError(f"--{name} {path}: there is no such file.")

    def camera_changes(self) -> dict[str, float | None]:
        """Fields of a camera, None if they stay as they are."""
        return {
            "height_m": self.camera_height_m,
            "pitch_deg": self.camera_pitch_deg,
            "hfov_deg": self.camera_hfov_deg,
        }


def kind_of(model_type: str) -> str:
    """What a model is called in tables: "cma" for the type "internnav_cma"."""
    return model_type.removeprefix("internnav_")


def requested_tasks(options: list[str]) -> list[str]:
    """What --task says among the options of scripts/evaluate.py; it decides which others exist."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--task", nargs="*", default=[VLN])
    return parser.parse_known_args(options)[0].task
