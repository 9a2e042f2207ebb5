"""Options of PPO, and of the simulated scenes in which it collects experience."""

from dataclasses import dataclass

from internnav_hf.arguments.ranges import check_numbers, check_pairs, option
from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import FORWARD_STEP_M
from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.sim.episodes import scene_seeds
from internnav_hf.sim.point_goals import (
    NUM_ACTIONS,
    TURN_STEP_DEG,
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

    def optimisation_steps(self, num_processes: int) -> int:
        """As many as `num_frames` give, if no process is preempted."""
        frames = num_processes * self.num_environments * self.rollout_steps
        return -int(-self.num_frames // frames) * self.steps_per_rollout


@dataclass
class SceneArguments:
    """Where PPO drives, and with which camera; the images have the model's size."""

    scenes: int = option(200, "Generated scenes.", low=1)
    density: str = option("medium", "Their clutter.", choices=tuple(DENSITIES))
    num_rooms: list[int] | None = option(None, "Fewest and most rooms, instead of --density, ...")
    num_objects: list[int] | None = option(None, "... fewest and most pieces of furniture.")
    meshes: list[str] | None = option(None, "Scenes from files (.glb, ...) instead.")
    camera_height: float = option(0.88, "Metres above the floor.", above=0)
    hfov_deg: float = option(79.0, "Degrees that the camera sees from left to right.", above=0)
    pitch_deg: float = option(0.0, "Degrees that the camera looks down.")
    allow_sliding: bool = option(True, "A robot slides along an obstacle that it meets.")
    episode_steps: int = option(500, "Steps until an episode is cut off.", low=1)
    min_distance: float = option(1.0, "Metres of walking from start to goal, ...", low=0)
    max_distance: float = option(30.0, "... and at most.", above=0)
    grid_resolution: float = option(0.05, "Metres of a cell of the navigation grid.", above=0)

    def __post_init__(self) -> None:
        check_numbers(self)
        given = [name for name in ("num_rooms", "num_objects") if getattr(self, name) is not None]
        check_pairs(self, *given)

    def task(self, model: DDPPOConfig, seed: int) -> PointGoalTask:
        """What a model with this configuration is trained on; ValueError if it acts otherwise."""
        _check_actions(model)
        camera = CameraSpec(
            width=model.image_width,
            height=model.image_height,
            hfov_deg=self.hfov_deg,
            height_m=self.camera_height,
            pitch_deg=self.pitch_deg,
        )
        rules = PointGoalRules(
            max_steps=self.episode_steps,
            allow_sliding=self.allow_sliding,
            min_distance_m=self.min_distance,
            max_distance_m=self.max_distance,
        )
        return PointGoalTask(
            sources=tuple(self.meshes or scene_seeds(seed, SPLIT, self.scenes)),
            camera=camera,
            depth_range_m=(model.min_depth_m, model.max_depth_m),
            config=self._scene_config(),
            rules=rules,
            grid_resolution_m=self.grid_resolution,
        )

    def _scene_config(self) -> SceneConfig:
        if self.num_rooms is None and self.num_objects is None:
            return scene_config(self.density)
        rooms, objects = self.num_rooms, self.num_objects
        return SceneConfig(
            num_rooms=SceneConfig.num_rooms if rooms is None else (rooms[0], rooms[1]),
            num_objects=SceneConfig.num_objects if objects is None else (objects[0], objects[1]),
        )


def _check_actions(model: DDPPOConfig) -> None:
    expected = {
        "action_space": "discrete",
        "num_actions": NUM_ACTIONS,
        "forward_step_m": FORWARD_STEP_M,
        "turn_angle_deg": TURN_STEP_DEG,
        "has_value_head": True,
    }
    for name, value in expected.items():
        found = getattr(model, name)
        if found != value:
            raise ValueError(f"The model's {name}: found {found!r}, PPO here expects {value!r}.")
