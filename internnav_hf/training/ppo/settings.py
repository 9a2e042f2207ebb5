"""Options of PPO, and of the simulated scenes in which it collects experience."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from internnav_hf.arguments.ranges import check_numbers, check_pairs, option
from internnav_hf.arguments.training import NavTrainingArguments
from internnav_hf.camera import CameraSpec, cameras_of
from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.sim.episodes import scene_seeds
from internnav_hf.sim.point_goals import (
    NUM_ACTIONS,
    PointGoalRules,
    PointGoalTask,
)
from internnav_hf.sim.scenes import DENSITIES, SceneConfig, scene_config

SPLIT = "ppo"  # of `scene_seeds`: no data set and no evaluation has these scenes


@dataclass
class PPOArguments:
    """The published hyper-parameters; the number of environments is ours."""

    num_environments: int = option(4, "Environments of a process (of a GPU).", low=1)
    rollout_steps: int = option(128, "Steps of an environment in a rollout.", low=2)
    ppo_epochs: int = option(2, "Passes over a rollout.", low=1)
    num_minibatches: int = option(2, "Parts of a pass, each some of the environments.", low=1)
    clip: float = option(0.2, "Share by which the probability of an action may change.", above=0)
    value_weight: float = option(0.5, "Weight of the value loss, half a squared error.", low=0)
    entropy_weight: float = option(0.01, "Weight of the entropy.", low=0)
    discount: float = option(0.99, "Weight of a reward one step later.", low=0, high=1)
    gae_lambda: float = option(0.95, "Of generalised advantage estimation.", low=0, high=1)
    sync_fraction: float = option(
        0.6, "Share of the processes after which the others end their rollouts.", above=0
    )
    num_frames: float = option(2.5e9, "Frames of all processes; --max_steps is stronger.", low=1)

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.num_minibatches > self.num_environments:
            raise ValueError(
                f"--num_minibatches: found {self.num_minibatches}, expected at most "
                f"--num_environments, {self.num_environments}: each is some of them."
            )

    @property
    def steps_per_rollout(self) -> int:
        """Optimisation steps after each rollout."""
        return self.ppo_epochs * self.num_minibatches

    def fit(self, args: NavTrainingArguments) -> None:
        """Set in `args` what follows from PPO, before a checkpoint is compared with them.

        Raises ValueError if they accumulate gradients, or set what follows.
        """
        size = self.num_environments * self.rollout_steps // self.num_minibatches
        fields = NavTrainingArguments.__dataclass_fields__
        for name, ours in {"per_device_train_batch_size": size, "num_train_epochs": None}.items():
            found = getattr(args, name)
            if found not in (fields[name].default, ours):
                raise ValueError(
                    f"{name}: found {found:g}, expected none: batches follow from "
                    "--num_environments, --rollout_steps and --num_minibatches, the end from "
                    "--num_frames or --max_steps."
                )
        args.check_evaluation(None)
        if args.gradient_accumulation_steps != 1:
            raise ValueError(
                f"gradient_accumulation_steps: found {args.gradient_accumulation_steps}, expected "
                "1: PPO takes --ppo_epochs times --num_minibatches steps after each rollout."
            )
        if args.max_steps < 1:
            args.max_steps = self.optimisation_steps(args.world_size)
        args.per_device_train_batch_size = size
        args.train_sampling_strategy = "random"
        args.ignore_data_skip = True  # what is left of a rollout is in the checkpoint
        args.ddp_find_unused_parameters = False  # both heads learn, so all weights do

    def optimisation_steps(self, num_processes: int) -> int:
        """As many as `num_frames` give, if no process is preempted."""
        frames = num_processes * self.num_environments * self.rollout_steps
        return -int(-self.num_frames // frames) * self.steps_per_rollout


@dataclass
class SceneArguments:
    """Where PPO drives, and with which camera. It renders as large as those of the model's data,
    if it has seen any, and shows the model's size, as data and robots do.
    """

    scenes: int = option(200, "Generated scenes.", low=1)
    density: str = option("medium", "Their clutter.", choices=tuple(DENSITIES))
    num_rooms: list[int] | None = option(None, "Fewest and most rooms, instead of --density, ...")
    num_objects: list[int] | None = option(None, "... fewest and most pieces of furniture.")
    meshes: list[str] | None = option(None, "Scenes from files (.glb, ...) instead.")
    camera_height: float | None = option(
        None, "Metres above the floor; default: as the model was trained, else 0.88.", above=0
    )
    hfov: float | None = option(None, "Degrees from left to right; else 79.", above=0, high=179)
    pitch: float | None = option(
        None, "Degrees that the camera looks down; else 0.", low=-90, high=90
    )
    allow_sliding: bool = option(True, "A robot slides along an obstacle that it meets.")
    episode_steps: int = option(500, "Steps until an episode is cut off.", low=1)
    min_distance: float = option(1.0, "Metres of walking from start to goal, ...", low=0)
    max_distance: float = option(30.0, "... and at most.", above=0)
    grid_resolution: float = option(0.05, "Metres of a cell of the navigation grid.", above=0)

    def __post_init__(self) -> None:
        check_numbers(self)
        given = [name for name in ("num_rooms", "num_objects") if getattr(self, name) is not None]
        check_pairs(self, *given)
        if self.meshes:
            self._check_meshes(self.meshes)

    def task(self, model: DDPPOConfig, seed: int) -> PointGoalTask:
        """What a model with this configuration is trained on; ValueError if it acts otherwise."""
        _check_actions(model)
        rules = PointGoalRules(
            forward_step_m=model.forward_step_m,
            turn_angle_deg=model.turn_angle_deg,
            max_steps=self.episode_steps,
            allow_sliding=self.allow_sliding,
            min_distance_m=self.min_distance,
            max_distance_m=self.max_distance,
        )
        return PointGoalTask(
            sources=tuple(self.meshes or scene_seeds(seed, SPLIT, self.scenes)),
            camera=self._camera(model),
            depth_range_m=(model.min_depth_m, model.max_depth_m),
            config=self._scene_config(),
            rules=rules,
            grid_resolution_m=self.grid_resolution,
            view_size=(model.image_height, model.image_width),
        )

    def _check_meshes(self, meshes: list[str]) -> None:
        for path in meshes:
            if not Path(path).is_file():
                raise ValueError(f"--meshes {path}: there is no such file.")
        for name in ("scenes", "density", "num_rooms", "num_objects"):
            found = getattr(self, name)
            if found != self.__dataclass_fields__[name].default:
                raise ValueError(
                    f"--{name}: found {found}, expected none: with --meshes no scene is generated."
                )

    def _camera(self, model: DDPPOConfig) -> CameraSpec:
        size = {"width": model.image_width, "height": model.image_height}
        known = cameras_of(model.camera) or (CameraSpec(height_m=0.88, **size),)
        chosen = {"height_m": self.camera_height, "hfov_deg": self.hfov, "pitch_deg": self.pitch}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        return replace(known[0], **chosen)

    def _scene_config(self) -> SceneConfig:
        if self.num_rooms is None and self.num_objects is None:
            return scene_config(self.density)
        rooms, objects = self.num_rooms, self.num_objects
        return SceneConfig(
            num_rooms=SceneConfig.num_rooms if rooms is None else (rooms[0], rooms[1]),
            num_objects=SceneConfig.num_objects if objects is None else (objects[0], objects[1]),
        )


def cores_per_process() -> int:
    """Cores of this machine for each training process on it: so many environment processes fit."""
    known = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    return max(1, len(known) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _check_actions(model: DDPPOConfig) -> None:
    expected = {
        "action_space": "discrete",
        "num_actions": NUM_ACTIONS,
        "has_value_head": True,
    }
    for name, value in expected.items():
        found = getattr(model, name)
        if found != value:
            raise ValueError(f"The model's {name}: found {found!r}, PPO here expects {value!r}.")
