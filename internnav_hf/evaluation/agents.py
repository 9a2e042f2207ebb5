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
from internnav_hf.geometry import (
    TURN_STEP,
    Action,
    camera_pose,
    lift_pixel,
    project,
    world_to_robot,
)
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
from internnav_hf.sim.semantic_views import class_colours_of

Kept = TypeVar("Kept")
NUM_HEADINGS = round(2 * np.pi / TURN_STEP)


class Agent(Protocol):
    """The interface. `name` is its row in the table; `needs_images=False` skips rendering."""

    name: str
    needs_images: bool = False

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """A new episode begins in environment `env_index`."""
        ...

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """The next action of each listed environment."""
        ...

    def decisions(self, env_index: int) -> Sequence[DecisionRecord]:
        """Records of the current episode for the report; none for an agent that keeps none."""
        return ()


class RandomWalker(Agent):
    """VLN-CE's random agent: every action drawn from the expert's frequencies, whatever is seen.

    STOP 2%, FORWARD 68%, TURN_LEFT 15%, TURN_RIGHT 15%. Each episode has its own generator, seeded
    by `seed` and the episode's name, so that a result does not depend on how many run in parallel.
    """

    name = "random"
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
        generators = episodes_of(self.name, self.generators, env_indices, observations, infos)
        return [int(rng.choice(self.actions, p=self.probabilities)) for rng in generators]


class ForwardWalker(Agent):
    """VLN-CE's hand-crafted agent: turns right to a random heading, walks straight on, stops.

    `num_steps` forward actions; VLN-CE: 37, the mean length of the paths in its training set. The
    heading is drawn as in `RandomWalker`: seeded by the episode.
    """

    name = "forward"

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
        plans = episodes_of(self.name, self.plans, env_indices, observations, infos)
        return [int(plan.pop(0) if len(plan) > 1 else plan[0]) for plan in plans]


class OracleAgent(Agent):
    """Knows map and goal: follows the shortest path and stops as near to the goal as it gets."""

    name = "oracle"

    def __init__(self) -> None:
        self.places: dict[int, tuple[Any, Any]] = {}

    def reset(self, env_index: int, env: NavigationEnv, instruction: str) -> None:
        """Measure the distance to the goal from everywhere."""
        self.places[env_index] = env.space, env.space.distance_field(env.episode.goal_xy)

    def act(self, env_indices: list[int], observations: list[dict], infos: list[dict]) -> list[int]:
        """Follow, or STOP."""
        places = episodes_of(self.name, self.places, env_indices, observations, infos)
        at = ((info["position"], info["yaw"]) for info in infos)
        actions = [next_action(*place, *pose) for place, pose in zip(places, at, strict=True)]
        return [int(Action.STOP if action is None else action) for action in actions]


def episodes_of(
    agent: str,
    kept: Mapping[int, Kept],
    env_indices: Sequence[int],
    observations: Sequence | None = None,
    infos: Sequence | None = None,
    goals: Sequence | None = None,
) -> list[Kept]:
    """What `agent` has `kept` of each listed environment; ValueError if observations, infos or
    goals have another length, for an environment that is listed twice, and for one without an
    episode.
    """
    given = {"observations": observations, "infos": infos, "goals": goals}
    for name, values in given.items():
        if values is not None and len(values) != len(env_indices):
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
    """`keys` of each observation, `rgb` as a PIL image, and `pose` (3,); ValueError if unusable."""
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


def look_down_view(
    env: NavigationEnv, observation: dict, semantics: bool = False
) -> dict[str, np.ndarray]:
    """`rgb` and `depth` at the look-down pitch, rendered unless it is the ordinary one, and
    `semantics` (H, W, 3) uint8, colours of classes, if asked for.
    """
    pitch = env.camera.look_down_pitch_deg
    if env.camera.pitch_deg == pitch and not semantics:
        return {"rgb": observation["rgb"], "depth": observation["depth"]}
    view = env.render_view(pitch)
    seen = {"rgb": view.rgb, "depth": view.depth}
    if semantics:
        seen["semantics"] = class_colours_of(view, env.camera_pose(pitch), env.camera)
    return seen


def place_at(
    env: NavigationEnv, pixel: tuple[float, float], depth: np.ndarray | None
) -> np.ndarray | None:
    """(2,) in the world that a pixel of the look-down view shows, by `depth` (H, W) if it has any
    there, else by the floor plane; None if it shows no place.
    """
    T_world_camera = env.camera_pose(env.camera.look_down_pitch_deg)
    point = lift_pixel(pixel, depth, T_world_camera, env.camera.intrinsics)
    return None if point is None else point[:2]


def floor_pixel(xy: Sequence[float], pose: Any, camera: CameraSpec) -> tuple[float, float]:
    """Pixel (u, v) of the floor at `xy` in the view from `pose` (x, y, yaw), maybe outside of it; a
    place behind the camera is far out on its side.
    """
    x, y, yaw = pose
    T_world_camera = camera_pose(x, y, yaw, camera.height_m, np.radians(camera.pitch_deg))
    pixels, depth = project(np.array([[*xy, 0.0]]), T_world_camera, camera.intrinsics)
    if depth[0] > 1e-3:
        return float(pixels[0, 0]), float(pixels[0, 1])
    is_left = world_to_robot(np.asarray(xy), pose)[1] > 0
    return (-1.0 if is_left else 2.0) * camera.width, camera.height / 2
