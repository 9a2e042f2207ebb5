"""What scripts/evaluate.py is asked for in visual navigation."""

from dataclasses import dataclass

from internnav_hf.arguments.ranges import check_counts, option
from internnav_hf.evaluation.arguments import TASKS, VLN, BenchmarkArguments
from internnav_hf.sim.scenes import DENSITIES

BASELINES = ("straight-line", "random", "oracle")


@dataclass
class VisualNavigationArguments(BenchmarkArguments):
    """What to evaluate, and where."""

    task: list[str] = option([*TASKS], f"Some of {', '.join(TASKS)}; several go in one table.")
    out: str = option("outputs/eval-system1", "Folder of metrics.json, metrics.md, report.html.")
    model: str | None = option(
        None,
        f"Model that drives to goals: folder, file, Hub name; or one of {', '.join(BASELINES)}.",
    )
    models: list[str] = option(
        [], "Several of them in one table; each drives those of the tasks that it can."
    )
    scenes: int = option(10, "Number of generated scenes (published: 10 or 20 of each kind).")
    episodes: int = option(10, "Episodes in each scene (published: 100).")
    baselines: list[str] = option(
        [*BASELINES], f"Agents to compare with, of {', '.join(BASELINES)}; or none."
    )
    density: str = option("medium", f"Clutter of generated scenes: {', '.join(DENSITIES)}.")
    num_samples: int = option(16, "Trajectories to choose from. NavDP repository: 16.")
    memory_stride: int = option(1, "Plans from one frame in the memory to the next.")
    stop_threshold: float | None = option(
        None, "If no trajectory has this value the robot turns; NavDP's clients choose one."
    )
    seen_clearance: float | None = option(
        None,
        "Metres that NavDP's choice keeps from what depth shows; by default its critic chooses.",
    )
    as_benchmarked: bool = option(
        False,
        "True: models as NavDP's published servers ran them, with their mistakes: NoMaD's goal "
        "hidden, DD-PPO's state forgotten at every step, walls at 6.55 m, goals cut, ...",
    )
    camera_width: int | None = option(None, "Instead of its width in pixels.", low=8, high=8192)
    camera_height: int | None = option(None, "Instead of its height in pixels.", low=8, high=8192)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.task) - set(TASKS))
        if VLN in unknown:
            raise ValueError(f"--task: {VLN} is measured by itself, without {', '.join(TASKS)}.")
        if unknown or not self.task:
            raise ValueError(
                f"--task: found {' '.join(unknown) or 'nothing'}, expected {VLN}, or some of "
                f"{', '.join(TASKS)}."
            )
        self.baselines = [] if self.baselines == ["none"] else self.baselines
        for name in self.baselines:
            if name not in BASELINES:
                raise ValueError(
                    f"--baselines: found {name}, expected some of {', '.join(BASELINES)}, or none."
                )
        if self.model is None and not self.models and not self.baselines:
            raise ValueError(
                "--model, --models, --baselines: found none of them, expected an agent."
            )
        if self.density not in DENSITIES:
            raise ValueError(f"--density: found {self.density}, expected {', '.join(DENSITIES)}.")
        check_counts(self, "num_samples", "memory_stride")
        super().__post_init__()

    @property
    def model_paths(self) -> list[tuple[str, str]]:
        """Option and path of each model, that of --model first; no baselines."""
        given = [("--model", self.model), *(("--models", path) for path in self.models)]
        return [(option, path) for option, path in given if path and path not in BASELINES]

    def camera_changes(self) -> dict[str, float | None]:
        """Fields of a camera, None if they stay as they are."""
        size = {"width": self.camera_width, "height": self.camera_height}
        return super().camera_changes() | size
