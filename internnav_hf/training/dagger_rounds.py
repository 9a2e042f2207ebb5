"""DAgger's rounds: training on states that the model itself reaches.

After the training on demonstrations, the first round runs the model in simulated rooms of its own.
At each step it learns the expert's action; the executed action is the expert's with probability p
in round 1, p squared in round 2, ..., else the model's. Then it trains on all that was ever
collected. VLN-CE's (arXiv 2004.02857), where iteration 0 is the expert alone.
"""

import copy
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from internnav_hf.arguments.ranges import check_counts, check_pairs, option
from internnav_hf.arguments.training import NavTrainingArguments
from internnav_hf.camera import cameras_of
from internnav_hf.catalog import family_of
from internnav_hf.models.vln.processor import VLNProcessor
from internnav_hf.policies.loading import split_settings
from internnav_hf.sim.episodes import scene_seeds
from internnav_hf.sim.scene_sets import SceneSet
from internnav_hf.sim.scenes import SceneConfig, generate_scene
from internnav_hf.training.dagger import collect

logger = logging.getLogger(__name__)

SPLIT = "dagger"  # of `scene_seeds`: no dataset and no evaluation has these scenes
DATA_FOLDER = "data"
COLLECTED_FILE = "collected"  # in the folder of a round, once its episodes are whole
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass
class DaggerArguments:
    """DAgger in the embedded simulator; VLN-CE's numbers, but for the scenes."""

    dagger_iterations: int = option(0, "Rounds after the training; 0 is teacher forcing alone.")
    dagger_episodes: int = option(5000, "Collected in each round.")
    dagger_epochs: float = option(4.0, "Passes over all data in each round.")
    dagger_p: float = option(0.75, "Probability of the expert's action in round 1; p**i in i.")
    dagger_scenes: int = option(100, "Generated scenes in which a round collects.")
    dagger_num_rooms: list[int] = option([*SceneConfig.num_rooms], "Fewest and most rooms of one.")
    dagger_num_objects: list[int] = option(
        [*SceneConfig.num_objects], "Fewest and most pieces of furniture in one."
    )
    dagger_min_distance: float = option(1.0, "Metres of walking from start to goal, at least.")
    dagger_max_steps: int = option(200, "Actions until an episode is cut off.")
    dagger_num_parallel: int = option(16, "Environments that the model answers in one batch.")

    def __post_init__(self) -> None:
        check_counts(self, "dagger_episodes", "dagger_scenes", "dagger_max_steps")
        check_counts(self, "dagger_num_parallel")
        if self.dagger_iterations < 0 or not 0 <= self.dagger_p <= 1:
            found = f"{self.dagger_iterations} and {self.dagger_p}"
            raise ValueError(
                f"--dagger_iterations, --dagger_p: found {found}, expected 0 or more and a share."
            )
        check_pairs(self, "dagger_num_rooms", "dagger_num_objects")


def dagger_stage(
    args: NavTrainingArguments, dagger_args: DaggerArguments, iteration: int
) -> NavTrainingArguments:
    """`args` of round `iteration`, from 1, which resumes in a folder of its own if the run does."""
    stage = copy.copy(args)
    stage.output_dir = str(Path(args.output_dir, "dagger", str(iteration)))
    stage.num_train_epochs, stage.max_steps = dagger_args.dagger_epochs, -1
    resumes = (args.resume_from_checkpoint or "false").lower() != "false"
    stage.resume_from_checkpoint = "auto" if resumes else None
    return stage


def check_camera(args: DaggerArguments, camera: dict | list[dict] | None) -> None:
    """Raise ValueError if rounds are asked for and the camera to simulate is unknown."""
    if args.dagger_iterations and len(cameras_of(camera)) != 1:
        raise ValueError(
            "--dagger_iterations: the data do not say which camera recorded them, or name several: "
            "what should the simulator show?"
        )


def collect_round(
    model: Any,
    processor: VLNProcessor,
    args: DaggerArguments,
    stage: NavTrainingArguments,
    iteration: int,
) -> str:
    """The data root of what was collected for round `iteration`; what a killed run has collected
    stays. The main process collects; the others wait as long as it takes, for a file, as a barrier
    has a time limit.
    """
    (camera,) = cameras_of(processor.camera)  # `check_camera`
    root, state = Path(stage.output_dir, DATA_FOLDER), PartialState()
    collected = root.with_name(COLLECTED_FILE)
    if state.is_main_process:
        beta, seed = args.dagger_p**iteration, stage.seed + iteration
        logger.info("DAgger round %d: the expert acts with probability %.3g.", iteration, beta)
        family = family_of(model.config.model_type)
        assert family is not None
        policy_class = family.load("policy")
        settings, _ = split_settings(policy_class, {"seed": seed})
        policy = policy_class(model.to(stage.device), processor, **settings)
        collect(
            policy,
            _scene_set(args, seed),
            camera,
            beta=beta,
            out=root,
            seed=seed,
            num_episodes=args.dagger_episodes,
            num_parallel=args.dagger_num_parallel,
            max_steps=args.dagger_max_steps,
        )
        model.train()
        collected.parent.mkdir(parents=True, exist_ok=True)
        collected.touch()
    while not collected.is_file():
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    state.wait_for_everyone()
    return str(root)


def _scene_set(args: DaggerArguments, seed: int) -> SceneSet:
    """Scenes of this round, each with its share of the episodes, rounded up."""
    (fewest_rooms, most_rooms), (fewest, most) = args.dagger_num_rooms, args.dagger_num_objects
    config = SceneConfig(num_rooms=(fewest_rooms, most_rooms), num_objects=(fewest, most))
    seeds = scene_seeds(seed, SPLIT, args.dagger_scenes)
    scenes = [generate_scene(scene_seed, config) for scene_seed in seeds]
    named = [replace(scene, name=f"dagger_{i:05d}") for i, scene in enumerate(scenes)]
    return SceneSet(named, -(-args.dagger_episodes // len(named)), seed, args.dagger_min_distance)
