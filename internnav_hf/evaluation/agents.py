"""Agents: what answers observations with actions, for many environments at once.

`env` is a `NavigationEnv`; observations and infos are what it returned, in the order of
`env_indices`. What does not fit together, or cannot be seen, is a ValueError that changes nothing
in any environment.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.records import DecisionRecord
from internnav_hf.geometry import TURN_STEP, Action, camera_pose, project, world_to_robot
from internnav_hf.policies.observations import (
    as_image,
    checked_depth,
    checked_keys,
    checked_picture,
    checked_pose,
    place_of,
)
from internnav_hf.sim.env import NavigationEnv, episode_name
from internnav_hf.sim.follower import next_action

Kept = TypeVar("Kept")
NUM_HEADINGS = round(2 * np.pi / TURN_STEP)


class Agent(Protocol):
    """The interface; no base class. `name` is its row in the table, and `needs_images=False` lets
    the rollout skip rendering.
    """

    name: str
    needs_images: bool

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """A new episode begins in environment `env_index`."""
        ...

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """The next action of each listed environment."""
        ...

    def decisions(self, env_index: int) -> Sequence[DecisionRecord]:
        """What is remembered of the current episode, for the report."""
        ...


class RandomWalker:
    """VLN-CE's random agent: every action drawn from the expert's frequencies, whatever is seen.

    STOP 2%, FORWARD 68%, TURN_LEFT 15%, TURN_RIGHT 15%. Each episode has its own generator, seeded
    by `seed` and the episode's name, so that a result does not depend on how many run in parallel.
    """

    name = "random"
    needs_images = False
    actions = (Action.STOP, Action.FORWARD, Action.TURN_LEFT, Action.TURN_RIGHT)
    probabilities = (0.02, 0.68, 0.15, 0.15)

    def __init__(self, seed: int):
        self.seed = seed
        self.generators: dict[int, np.random.Generator] = {}

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """Seed by the episode."""
        self.generators[env_index] = np.random.default_rng([self.seed, *episode_name(env).encode()])

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """Draw."""
        given = {"observations": observations, "infos": infos}
        generators = episodes_of(self.name, self.generators, env_indices, **given)
        return [int(rng.choice(self.actions, p=self.probabilities)) for rng in generators]

    def decisions(self, env_index: int) -> list[DecisionRecord]:
        """None."""
        return []


class ForwardWalker:
    """VLN-CE's hand-crafted agent: turns right to a random heading, walks straight on, stops.

    `num_steps` forward actions; VLN-CE: 37, the mean length of the paths in its training set. The
    heading is drawn as in `RandomWalker`: seeded by the episode.
    """

    name = "forward"
    needs_images = False

    def __init__(self, seed: int, num_steps: int = 37):
        self.seed, self.num_steps = seed, num_steps
        self.plans: dict[int, list[int]] = {}

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """Draw the heading; as in VLN-CE, of 0 to 22 turns."""
        rng = np.random.default_rng([self.seed, *episode_name(env).encode()])
        turns = [Action.TURN_RIGHT] * int(rng.integers(0, NUM_HEADINGS - 1))
        self.plans[env_index] = [*turns, *[Action.FORWARD] * self.num_steps, Action.STOP]

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """The plan, step by step; after its STOP, STOP again."""
        given = {"observations": observations, "infos": infos}
        plans = episodes_of(self.name, self.plans, env_indices, **given)
        return [int(plan.pop(0) if len(plan) > 1 else plan[0]) for plan in plans]

    def decisions(self, env_index: int) -> list[DecisionRecord]:
        """None."""
        return []


class OracleAgent:
    """Knows map and goal: follows the shortest path and stops as near to the goal as it gets."""

    name = "oracle"
    needs_images = False

    def __init__(self) -> None:
        self.places: dict[int, tuple[Any, Any]] = {}

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """Measure the distance to the goal from everywhere."""
        self.places[env_index] = env.space, env.space.distance_field(env.episode.goal_xy)

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """Follow, or STOP."""
        given = {"observations": observations, "infos": infos}
        places = episodes_of(self.name, self.places, env_indices, **given)
        return [self._next(*place, info) for place, info in zip(places, infos, strict=True)]

    def _next(self, space: Any, field: Any, info: dict) -> int:
        action = next_action(space, field, info["position"], info["yaw"])
        return int(Action.STOP if action is None else action)

    def decisions(self, env_index: int) -> list[DecisionRecord]:
        """None."""
        return []


def episodes_of(
    agent: str, kept: Mapping[int, Kept], env_indices: Sequence[int], **given: Sequence
) -> list[Kept]:
    """What `agent` has `kept` of each listed environment; ValueError where `given` has other
    lengths, for an environment that is listed twice, and for one without an episode.
    """
    for name, values in given.items():
        if len(values) != len(env_indices):
            found = f"{len(env_indices)} environments and {len(values)} {name}"
            raise ValueError(f"{agent}: {found} do not match.")
    if len(set(env_indices)) < len(env_indices):
        raise ValueError(f"{agent}: found an environment twice in {list(env_indices)[:9]}.")
    for index in env_indices:
        if index not in kept:
            known = f"known: {sorted(kept)[:9]}" if kept else "none has been reset"
            raise ValueError(f"{agent}: found environment {index}, which has no episode ({known}).")
    return [kept[index] for index in env_indices]


def checked_sights(
    agent: str, observations: Sequence, infos: Sequence, keys: Sequence[str] = ("rgb",)
) -> list[dict[str, Any]]:
    """`keys` of each observation, `rgb` as a PIL image, and the `pose` (3,) of each info; what
    cannot be seen is a ValueError.
    """
    sights = []
    for row, (observation, info) in enumerate(zip(observations, infos, strict=True)):
        where = place_of(agent, row, len(observations))
        checked_keys(observation, where, keys, keys)
        rgb = checked_picture(observation["rgb"], f"{where}: rgb")
        sight: dict[str, Any] = {"rgb": as_image(rgb)}
        if "depth" in keys:
            sight["depth"] = checked_depth(observation["depth"], f"{where}: depth", rgb)
        pose = (*info["position"], info["yaw"])
        sights.append(sight | {"pose": checked_pose(pose, f"{where}: pose")})
    return sights


def floor_pixel(
    xy: tuple[float, float] | np.ndarray,
    pose: tuple[float, float, float] | np.ndarray,
    camera: CameraSpec,
) -> tuple[float, float]:
    """Pixel (u, v) of the floor at `xy` in the view from `pose`, maybe outside of it; a place
    behind the camera is far out on its side.
    """
    x, y, yaw = pose
    T_world_camera = camera_pose(x, y, yaw, camera.height_m, np.radians(camera.pitch_deg))
    pixels, depth = project(np.array([[*xy, 0.0]]), T_world_camera, camera.intrinsics)
    if depth[0] > 1e-3:
        return float(pixels[0, 0]), float(pixels[0, 1])
    is_left = world_to_robot(np.asarray(xy), pose)[1] > 0
    return (-1.0 if is_left else 2.0) * camera.width, camera.height / 2
