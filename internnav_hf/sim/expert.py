"""The expert: demonstrations of the planned path in VLN-CE's actions, and their pixel goals.

A frame's pixel goal is where the robot will be some frames later, projected to the floor of the
look-down view: the farthest such position that is inside the image, not hidden and at most
`MAX_GOAL_DISTANCE_M` away. This follows the published data in form (`goal`,
`relative_goal_frame_id`); the published choice of frames is not documented.

Legend: T frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import (
    FORWARD_STEP_M,
    TURN_STEP,
    Action,
    camera_pose,
    project,
    wrap_angle,
)
from internnav_hf.sim.episodes import EpisodeSampler, NavigationEpisode
from internnav_hf.sim.follower import next_action
from internnav_hf.sim.navigation import DistanceField, NavigableSpace
from internnav_hf.sim.render import Rendering

MAX_STEPS = 200
MIN_FRAMES = 4  # System2's sampling rules skip shorter episodes
_TRIES_PER_DEMONSTRATION = 20
MIN_GOAL_FRAMES, MAX_GOAL_FRAMES = 3, 16
MAX_GOAL_DISTANCE_M = 3.0
_OCCLUSION_TOLERANCE_M = 0.25
_FACING = TURN_STEP / 2 + 1e-6
_ARRIVED_M = 0.3
NO_GOAL = -1
UNTAUGHT = 1
"""`relative_goal_frame_id` of frames without a target; the sampling rules drop 1 and 2."""


@dataclass(frozen=True)
class Demonstration:
    """One episode: `poses` (T, 3) as (x, y, yaw); `actions` (T,) at each frame, the last one STOP.

    `exploring` (T,) marks frames whose action was drawn at random; `expert_actions` (T,) are what
    the expert would have done there, and equal to `actions` elsewhere.
    """

    poses: np.ndarray
    actions: np.ndarray
    exploring: np.ndarray
    expert_actions: np.ndarray


def demonstrate(
    space: NavigableSpace,
    field: DistanceField,
    episode: NavigationEpisode,
    rng: np.random.Generator,
    exploration: float = 0.0,
) -> Demonstration | None:
    """The expert's demonstration of an episode; None if it does not arrive within `MAX_STEPS`.

    With `exploration`, each step starts with that probability a burst of one to four random
    actions, from which the expert recovers: states off the path, as a trained model will meet them.
    """
    x, y, yaw = episode.start
    position = np.array([x, y])
    poses, actions, exploring, expert_actions, burst = [], [], [], [], []
    while len(poses) < MAX_STEPS:
        if not burst and rng.random() < exploration:
            burst = _burst(rng)
        exploring.append(bool(burst))
        best = expert_action(space, field, episode, position, yaw)
        action = burst.pop() if burst else best
        poses.append((*position, yaw))
        actions.append(int(action))
        expert_actions.append(int(best))
        if action == Action.STOP:
            if float(field(position)) > _ARRIVED_M:
                return None
            return Demonstration(*map(np.array, (poses, actions, exploring, expert_actions)))
        position, yaw = _after(space, position, yaw, action)
    return None


def _after(
    space: NavigableSpace, position: np.ndarray, yaw: float, action: Action
) -> tuple[np.ndarray, float]:
    """Position and heading after the action."""
    if action == Action.FORWARD:
        ahead = FORWARD_STEP_M * np.array([np.cos(yaw), np.sin(yaw)])
        return space.move(position, position + ahead)[0], yaw
    turn = {Action.TURN_LEFT: TURN_STEP, Action.TURN_RIGHT: -TURN_STEP}.get(action, 0.0)
    return position, float(wrap_angle(yaw + turn))


def draw_demonstrations(
    space: NavigableSpace,
    sampler: EpisodeSampler,
    num_demonstrations: int,
    rng: np.random.Generator,
    exploration: float = 0.0,
) -> Iterator[tuple[NavigationEpisode, Demonstration]]:
    """Episodes and the expert's demonstrations; fewer in a small scene, ValueError if none fits."""
    found, scene_name = 0, sampler.scene.name
    for _ in range(_TRIES_PER_DEMONSTRATION * num_demonstrations):
        if found == num_demonstrations:
            return
        drawn = sampler.draw(rng, f"{scene_name}_{found:06d}")
        steps = drawn and demonstrate(space, drawn[1], drawn[0], rng, exploration)
        if drawn and steps and len(steps.actions) >= MIN_FRAMES:
            yield drawn[0], steps
            found += 1
    if not found:
        raise ValueError(f"Scene {scene_name} is too small: no episode fits into it.")


def _burst(rng: np.random.Generator) -> list[Action]:
    turn = Action.TURN_LEFT if rng.random() < 0.5 else Action.TURN_RIGHT
    choices = [turn, turn, Action.FORWARD]
    return [choices[int(rng.integers(3))] for _ in range(int(rng.integers(1, 5)))]


def expert_action(
    space: NavigableSpace,
    field: DistanceField,
    episode: NavigationEpisode,
    position: np.ndarray,
    yaw: float,
) -> Action:
    """The next action: move to the goal, there turn to face the object, then stop."""
    distance = float(field(position))
    if distance > 0 and (action := next_action(space, field, position, yaw, 0.0)) is not None:
        return action
    if episode.goal_object is None:
        return Action.STOP
    towards = np.array(episode.goal_object.position) - position
    bearing = float(wrap_angle(np.arctan2(towards[1], towards[0]) - yaw))
    if abs(bearing) <= _FACING:
        return Action.STOP
    return Action.TURN_LEFT if bearing > 0 else Action.TURN_RIGHT


def expert_plan(
    space: NavigableSpace,
    field: DistanceField,
    episode: NavigationEpisode,
    position: np.ndarray,
    yaw: float,
) -> list[int]:
    """The expert's actions from `position` to its STOP, at most `MAX_STEPS`."""
    plan: list[int] = []
    while len(plan) < MAX_STEPS and (not plan or plan[-1] != Action.STOP):
        action = expert_action(space, field, episode, position, yaw)
        plan.append(int(action))
        position, yaw = _after(space, position, yaw, action)
    return plan


def pixel_goals(
    demonstration: Demonstration, views: list[Rendering], camera: CameraSpec, pitch_deg: float
) -> tuple[np.ndarray, np.ndarray]:
    """Goals (T, 2) int32 as (u, v), and how many frames ahead they lie (T,); -1 where there is
    none.

    Frames that are disturbed by random actions get `UNTAUGHT` and the image's centre.
    """
    num_frames = len(demonstration.poses)
    goals = np.full((num_frames, 2), NO_GOAL, dtype=np.int32)
    ahead = np.full(num_frames, NO_GOAL, dtype=np.int32)
    explored = np.append(np.flatnonzero(demonstration.exploring), num_frames)
    for t in range(num_frames):
        next_explored = int(explored[np.searchsorted(explored, t)])
        goal = _farthest_visible(
            demonstration, t, min(next_explored, num_frames - 1), views[t], camera, pitch_deg
        )
        if goal is not None:
            goals[t], ahead[t] = goal
        elif next_explored < min(num_frames, t + MIN_GOAL_FRAMES + 1):
            goals[t], ahead[t] = (camera.width // 2, camera.height // 2), UNTAUGHT
    return goals, ahead


def _farthest_visible(
    demonstration: Demonstration,
    t: int,
    last: int,
    view: Rendering,
    camera: CameraSpec,
    pitch_deg: float,
) -> tuple[tuple[int, int], int] | None:
    """The farthest goal among frames t+3 ... last: its pixel, and how many frames ahead it lies."""
    frames = np.arange(t + MIN_GOAL_FRAMES, min(last, t + MAX_GOAL_FRAMES) + 1)
    if not len(frames):
        return None
    here, there = demonstration.poses[t, :2], demonstration.poses[frames, :2]
    points = np.concatenate([there, np.zeros((len(frames), 1))], axis=1)
    x, y, yaw = demonstration.poses[t]
    pose = camera_pose(x, y, yaw, camera.height_m, np.radians(pitch_deg))
    uv, depth = project(points, pose, camera.intrinsics)
    uv = np.nan_to_num(uv, nan=-1.0)
    distance = np.linalg.norm(there - here, axis=1)
    fits = (uv >= 0).all(axis=1) & (uv < [camera.width, camera.height]).all(axis=1)
    fits &= (distance <= MAX_GOAL_DISTANCE_M) & (distance >= 2 * FORWARD_STEP_M - 1e-6)
    columns, rows = np.where(fits[:, None], uv, 0).astype(int).T
    seen = view.depth[rows, columns]
    fits &= (seen == 0) | (seen > depth - _OCCLUSION_TOLERANCE_M)
    if not fits.any():
        return None
    best = int(np.flatnonzero(fits)[np.argmax(distance[fits])])
    return (int(uv[best, 0]), int(uv[best, 1])), int(frames[best] - t)
