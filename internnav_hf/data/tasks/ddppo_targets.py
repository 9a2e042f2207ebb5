"""Steps of a walk to a point: where the goal is, what the expert does, what led to each frame.

    poses (T, 3) and actions (T,)  -> steps up to the arrival             walks of discrete actions
    poses (T, 3)                   -> frames of about a step, and actions  smooth walks

The goal is the place where the walk ends. At the first frame near it the action is to stop, and the
rest of the walk, as a last turn to an object, is left out.

T frames of a walk, K of a sample. Poses are x, y, yaw of the robot in the world; actions 0 stop, 1
forward, 2 left, 3 right, -1 for none.
"""

from typing import NamedTuple

import numpy as np

from internnav_hf.data.checks.actions import AS_DOCUMENTED, Transitions
from internnav_hf.geometry import Action, world_to_robot, wrap_angle

NONE_BEFORE = -1


class Steps(NamedTuple):
    """`frames`, `actions` and `previous_actions` (K,) of a sample; `pointgoals` (K, 2): metres, and
    radians to the left.
    """

    frames: np.ndarray
    actions: np.ndarray
    previous_actions: np.ndarray
    pointgoals: np.ndarray


class StepSizes(NamedTuple):
    """Medians over walks, nan of a motion that none of them has."""

    forward_m: float
    turn_deg: float


def discrete_steps(
    poses: np.ndarray, actions: np.ndarray, previous: np.ndarray, arrival_m: float
) -> Steps:
    """Of a walk with the expert's `actions` and the actions `previous` that led to its frames."""
    pointgoals = points_to(poses, poses[-1, :2])
    count = 1 + _arrival(pointgoals[:, 0], arrival_m)
    done = actions[:count].copy()
    done[-1] = Action.STOP
    return Steps(np.arange(count), done, previous[:count], pointgoals[:count])


def smooth_steps(poses: np.ndarray, sizes: StepSizes, arrival_m: float) -> Steps:
    """Of a walk that was not driven in steps: from frame to frame about a step of one kind.

    The robot steps forward if that leads nearer than half a turn to the place where the walk is a
    step later, else it turns there. The next frame is the first that is a step, or a turn, away.
    """
    half, turn = np.radians(sizes.turn_deg) / 2, np.radians(sizes.turn_deg)
    pointgoals = points_to(poses, poses[-1, :2])
    last = _arrival(pointgoals[:, 0], arrival_m)
    frames, actions = [0], []
    while frames[-1] < last:
        here = frames[-1]
        away = np.linalg.norm(poses[here + 1 :, :2] - poses[here, :2], axis=1)
        turned = np.abs(wrap_angle(poses[here + 1 :, 2] - poses[here, 2]))
        ahead = here + 1 + _first(away >= sizes.forward_m)
        x, y = world_to_robot(poses[ahead, :2], poses[here])
        bearing = float(np.arctan2(y, x))
        if abs(bearing) <= half or ahead == here:
            actions.append(Action.FORWARD)
            frames.append(min(ahead, last))
        else:
            actions.append(Action.TURN_LEFT if bearing > 0 else Action.TURN_RIGHT)
            moved = (turned >= turn) | (away >= sizes.forward_m)
            frames.append(min(here + 1 + _first(moved), last))
    actions.append(Action.STOP)
    done = np.array(actions, np.int64)
    return Steps(np.array(frames), done, led_by(done), pointgoals[frames])


def led_by(actions: np.ndarray) -> np.ndarray:
    """(T,) what led to each frame if the `actions` (T,) were done."""
    return np.concatenate([[NONE_BEFORE], actions[:-1]])


def points_to(poses: np.ndarray, goal_xy: np.ndarray) -> np.ndarray:
    """(T, 2) distance in m and angle in rad, left positive, of the place `goal_xy` from poses."""
    towards = goal_xy - poses[:, :2]
    angle = wrap_angle(np.arctan2(towards[:, 1], towards[:, 0]) - poses[:, 2])
    distance = np.linalg.norm(towards, axis=1)
    # on the spot there is no direction
    return np.stack([distance, np.where(distance > 1e-6, angle, 0.0)], axis=1)


def step_sizes(walks: list[tuple[np.ndarray, np.ndarray]]) -> StepSizes:
    """Of walks, each its poses and the actions that led to them; steps that met something, and did
    not move freely, do not sway a median.
    """
    pairs = [(np.diff(poses, axis=0), led[1:]) for poses, led in walks]
    moves = np.concatenate([move for move, _ in pairs])
    led = np.concatenate([done for _, done in pairs])
    lengths = np.linalg.norm(moves[led == Action.FORWARD, :2], axis=1)
    is_turn = (led == Action.TURN_LEFT) | (led == Action.TURN_RIGHT)
    turns = np.abs(wrap_angle(moves[is_turn, 2]))
    return StepSizes(
        float(np.median(lengths)) if lengths.size else float("nan"),
        float(np.degrees(np.median(turns))) if turns.size else float("nan"),
    )


def agreement(walks: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The share of clear motions of walks, as in `step_sizes`, that the actions explain; nan
    without any.
    """
    joined = Transitions.joined([Transitions.of(led, poses) for poses, led in walks]).clear()
    explained = AS_DOCUMENTED.explains(joined)
    return float(explained.mean()) if explained.size else float("nan")


def _arrival(distances: np.ndarray, arrival_m: float) -> int:
    """The first frame near the goal."""
    return int(np.argmax(distances <= arrival_m))  # the last one is there


def _first(mask: np.ndarray) -> int:
    """The first index where `mask`, else the last."""
    return int(mask.argmax()) if mask.any() else len(mask) - 1
