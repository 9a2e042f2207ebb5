"""Targets and inputs of a whole episode: actions, their weights, displacements and poses.

    actions -> progress, if it is not stored, and inflection_weights         Seq2Seq, CMA
    poses (T, 3) -> displacements -> discrete_displacements                  RDP's targets
    plans (T, H) -> planned_displacements                                    the same, off the way
    poses (T, 3) -> previous_displacements, relative_poses                   RDP's inputs

The rules are the published ones, except that a displacement is left in metres and radians: the
model scales it.

T frames, H horizon, P past. Poses are x, y, yaw of the robot in the world, the yaw in [-pi, pi). A
displacement is dx, dy, dyaw.
"""

import numpy as np

from internnav_hf.data.formats.vln_pe.reader import HORIZON
from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP, Action, world_to_robot, wrap_angle

INFLECTION_COEFFICIENT = 3.2
NUM_PREVIOUS = 4
SMALL_M, SMALL_TURN = 0.1, 0.2  # below it a step or a turn counts as no motion
FULL_STEP_M, FULL_TURN = 0.25, 0.27


def inflection_weights(
    actions: np.ndarray, coefficient: float = INFLECTION_COEFFICIENT
) -> np.ndarray:
    """Return (T,) float32: `coefficient` if the action differs from the one before, else 1."""
    changes = np.concatenate([[True], actions[1:] != actions[:-1]])
    return np.where(changes, coefficient, 1.0).astype(np.float32)


def stop_progress(length: int, steps_left: np.ndarray | None = None) -> np.ndarray:
    """Return (T,) share of frames done after each. With `steps_left` (T,), the expert's steps from
    each frame to its stop: share of the frames so far and those.
    """
    over = np.arange(1, length + 1)
    return over / (length if steps_left is None else over - 1 + steps_left[:length])


def progress(actions: np.ndarray) -> np.ndarray:
    """Return (T,) share of the steps forward that are done before each frame."""
    forward = actions == Action.FORWARD
    return (np.cumsum(forward) - forward) / max(forward.sum(), 1)


def relative_poses(poses: np.ndarray) -> np.ndarray:
    """Return (T, 3) position and heading relative to the first frame; as published, the heading
    difference is not wrapped (`RDPConfig.relative_heading`).
    """
    xy = world_to_robot(poses[:, :2], poses[0])
    return np.column_stack([xy, poses[:, 2] - poses[0, 2]])


def displacements(poses: np.ndarray, horizon: int = HORIZON) -> np.ndarray:
    """(T, H, 3) the next steps from each frame, in its frame; none after the last."""
    last = len(poses) - 1
    rows = np.minimum(np.arange(len(poses))[:, None] + np.arange(horizon + 1), last)
    return _steps(poses[rows])


def previous_displacements(poses: np.ndarray, num_previous: int = NUM_PREVIOUS) -> np.ndarray:
    """(T, P, 3) the last steps backwards from each frame, in its frame, the latest first: forward
    motion gives a negative dx. None before the first.
    """
    rows = np.maximum(np.arange(len(poses))[:, None] - np.arange(num_previous + 1), 0)
    return _steps(poses[rows])


def _steps(poses: np.ndarray) -> np.ndarray:
    """(T, N - 1, 3) displacements between poses (T, N, 3), in the frame of each first pose."""
    sin, cos = np.sin(poses[:, 0, 2]), np.cos(poses[:, 0, 2])
    world_from_robot = np.stack([cos, -sin, sin, cos], axis=-1).reshape(-1, 2, 2)
    moves = np.diff(poses[..., :2], axis=1) @ world_from_robot  # its inverse, applied to rows
    headings = wrap_angle(poses[..., 2] - poses[:, :1, 2])
    turns = np.asarray(wrap_angle(np.diff(headings, axis=1)))
    return np.concatenate([moves, turns[..., None]], axis=-1)


def discrete_displacements(steps: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Return displacements (T, H, 3), corrected if `actions` (T,) did not happen as commanded.

    A forward step that hardly moved becomes a whole one, a turn that hardly turned likewise, a turn
    does not move, a stop neither. As published: a forward step that turned left does not, one that
    turned right does, and the headings are those of the commands.
    """
    num_frames, horizon = steps.shape[:2]
    padded = np.concatenate([actions, np.full(horizon, Action.STOP)])
    commands = padded[np.arange(num_frames)[:, None] + np.arange(horizon)]
    turns, headings = _turns_and_headings(commands)
    forward, stop = commands == Action.FORWARD, commands == Action.STOP
    xy, yaw = steps[..., :2].copy(), steps[..., 2].copy()
    still = forward & (np.abs(xy) < SMALL_M).all(axis=-1)
    whole = FULL_STEP_M * np.stack([np.cos(headings), np.sin(headings)], axis=-1)
    xy = np.where(still[..., None], whole, xy)
    yaw = np.where(forward & (yaw > SMALL_M), 0.0, yaw)
    turning = turns != 0
    xy = np.where(turning[..., None] & (np.abs(xy) > SMALL_M), 0.0, xy)
    yaw = np.where(turning & (np.abs(yaw) < SMALL_TURN), np.sign(turns) * FULL_TURN, yaw)
    xy, yaw = np.where(stop[..., None], 0.0, xy), np.where(stop, 0.0, yaw)
    return np.concatenate([xy, yaw[..., None]], axis=-1)


def planned_displacements(plans: np.ndarray) -> np.ndarray:
    """Return (T, H, 3) displacements of the planned actions `plans` (T, H) from each frame, for
    robots that did others: whole steps and turns.
    """
    turns, headings = _turns_and_headings(plans)
    ahead = FORWARD_STEP_M * np.stack([np.cos(headings), np.sin(headings)], axis=-1)
    moves = np.where((plans == Action.FORWARD)[..., None], ahead, 0.0)
    return np.concatenate([moves, turns[..., None]], axis=-1)


def _turns_and_headings(commands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (T, H) turn angles of the actions (T, H), and the heading before each."""
    turns = TURN_STEP * (commands == Action.TURN_LEFT) - TURN_STEP * (commands == Action.TURN_RIGHT)
    return turns, np.cumsum(turns, axis=1) - turns
