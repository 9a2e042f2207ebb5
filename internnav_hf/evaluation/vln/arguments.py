"""What scripts/evaluate.py is asked for in instruction following."""

from dataclasses import dataclass

from internnav_hf.arguments.ranges import check_counts, check_pairs, option
from internnav_hf.catalog import FAMILIES
from internnav_hf.evaluation.arguments import TASKS, VLN, BenchmarkArguments, kind_of
from internnav_hf.sim.scenes import SceneConfig

DRIVERS = [
    kind_of(family.model_type) for family in FAMILIES if family.benchmark == "visual_navigation"
]
WITH_SYSTEM2 = ("system2", *(f"system2_{kind}" for kind in DRIVERS), "dual")
SYSTEM2_FAMILIES = ("System2", "DualSystem")
# Of several models of a kind the second is called cma_2.
FOLLOWERS = [
    kind_of(family.model_type)
    for family in FAMILIES
    if family.benchmark == VLN and family.name not in SYSTEM2_FAMILIES
]
AGENTS = ("random", "forward", *FOLLOWERS, *WITH_SYSTEM2, "oracle")


@dataclass
class VLNArguments(BenchmarkArguments):
    """What to evaluate, where, how."""

    task: list[str] = option([VLN], f"{VLN}, or visual navigation: some of {', '.join(TASKS)}.")
    model: str | None = option(
        None, "Folder (or Hub name) of a System2 or dual system, or of one of --vln_models."
    )
    vln_models: list[str] = option(
        [], "Folders of Seq2Seq, CMA, RDP and the like, a row in the table each."
    )
    system1: str | None = option(
        None, "A model that drives to goals, of --model: folder, released file or Hub name."
    )
    system1_goal: str | None = option(
        None,
        "Form of its goals: the pixel, the point that it shows by depth, a closeup of the view "
        "around it, or the whole look-down view (image); default: the first that --system1 can.",
        choices=("pixel", "point", "closeup", "image"),
    )
    answer_with: str | None = option(None, "head or text; by default the head if there is one.")
    agents: list[str] = option([], f"Rows of the table, of {', '.join(AGENTS)}; by default all.")
    forward_steps: int | None = option(
        None, "Steps of the forward walker (VLN-CE: 37); default: those of the mean shortest path."
    )
    min_distance: float = option(2.0, "Metres of walking from start to goal, at least.", low=0)
    num_rooms: list[int] = option(
        [*SceneConfig.num_rooms], "Fewest and most rooms of a generated scene."
    )
    num_objects: list[int] = option(
        [*SceneConfig.num_objects], "Fewest and most pieces of furniture in one."
    )
    success_distance: float = option(1.0, "Metres from the goal that count as reached.", above=0)
    max_steps: int = option(500, "Actions until an episode is cut off.")
    allow_sliding: bool = option(False, "VLN-CE's rule: slide along an obstacle that is met.")
    max_steps_per_goal: int = option(
        8, "Actions towards a pixel goal until System2 is asked again."
    )
    num_trajectories: int = option(32, "Samples of the action expert for a path.")
    guidance_scale: float | None = option(
        None, "Guidance of the action expert; default: the expert's own."
    )
    max_steps_per_plan: int = option(8, "Actions with a plan until System2 is asked again.")
    use_depth: bool = option(True, "False: no depth; pixel goals are lifted by the floor plane.")
    camera_look_down_pitch_deg: float | None = option(None, "Instead of its look-down pitch.")
    data_root: str | None = option(None, "Root of held-out data for the open loop part.")
    datasets: str = option("r2r_val_unseen_125cm_0_30", "Held-out datasets below --data_root.")
    cache_dir: str | None = option(None, "Where the data's index is kept; by default with HF's.")
    num_samples: int = option(500, "Samples of the open loop part.", low=1)
    sample_step: int = option(4, "Frames between two of them in an episode, as in training.", low=1)
    batch_size: int = option(16, "Samples in one batch of the open loop part.", low=1)

    def __post_init__(self) -> None:
        if self.task != [VLN]:
            raise ValueError(f"--task: found {' '.join(self.task)}; name it on the command line.")
        unknown = sorted(set(self.agents) - set(AGENTS))
        if unknown:
            raise ValueError(
                f"--agents: found {', '.join(unknown)}; known are {', '.join(AGENTS)}."
            )
        if self.answer_with not in (None, "head", "text"):
            raise ValueError(f"--answer_with: found {self.answer_with}, expected head or text.")
        check_pairs(self, "num_rooms", "num_objects")
        check_counts(self, "num_trajectories", "max_steps", "max_steps_per_goal")
        check_counts(self, "max_steps_per_plan", "forward_steps")
        super().__post_init__()
        if self.data_root is not None and self.model is None:
            raise ValueError("--data_root: single decisions are those of a --model; none is given.")
        if self.system1 is not None and self.model is None:
            raise ValueError("--system1: it moves to the goals of a --model; none is given.")

    def camera_changes(self) -> dict[str, float | None]:
        """Fields of a camera, None if they stay as they are."""
        return super().camera_changes() | {"look_down_pitch_deg": self.camera_look_down_pitch_deg}
