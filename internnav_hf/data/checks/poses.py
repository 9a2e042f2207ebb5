"""Checks that poses can be those of a robot: metres, radians, rotations, in the expected frame.

Limits are wide, as robots slide along walls, floors lie anywhere and legs sway; they refuse another
unit (millimetres, degrees), other axes (y up, world to camera) or a file of something else.

T frames.
"""

from pathlib import Path

import numpy as np

from internnav_hf.data.readers.errors import broken
from internnav_hf.geometry import Action, wrap_angle

LARGEST_XY_M, LARGEST_Z_M = 1e7, 1e4  # a map's coordinates, and the highest mountain
LARGEST_STEP_M = 2.0  # between two frames of discrete actions
LARGEST_MOTION_M = 3.0  # between two frames of continuous driving
ROTATION_TOLERANCE = 0.02
PITCH_TOLERANCE = float(np.radians(10))
AXES_TOLERANCE = float(np.radians(45))  # of pitch: coarse, it only distinguishes the up axis
LARGEST_ROLL = float(np.radians(10))
ASIDE, BACKWARDS = float(np.radians(45)), float(np.radians(90))
FEWEST_STEPS, SHORTEST_STEP_M = 6, 0.02  # needed to know where a robot is heading
FEWEST_FORWARD, STANDS_M = 8, 0.01  # forward actions, and the minimum motion in each
FULL_TURN = 2 * np.pi
LARGEST_TURN = 2.0  # rad between two frames; the smallest sure sign of degrees
LEAST_MOVED, FEWEST_MOVES = 1e-6, 6  # m, rad in so many motions; a stuck robot may try
UNITS = {1e3: "millimetres", 1e2: "centimetres"}


def check_finite(values: np.ndarray, path: Path, field: str) -> None:
    """Check numbers (T, ...)."""
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if len(wrong):
        raise broken(path, field, f"nan or infinity at frame {wrong[0]}", "finite numbers")


def check_positions(
    xyz: np.ndarray, path: Path, field: str, largest_step_m: float = LARGEST_STEP_M
) -> None:
    """Check positions (T, 3): on earth, and without a jump."""
    for axes, limit in (("x, y", LARGEST_XY_M), ("z", LARGEST_Z_M)):
        values = np.abs(xyz[:, :2] if axes == "x, y" else xyz[:, 2:]).max(axis=1)
        if values.max() > limit:
            frame = int(np.argmax(values > limit))
            found = f"{axes} of {values[frame]:.4g} at frame {frame}"
            raise broken(path, field, found, f"metres, up to {limit:g}")
    steps = np.linalg.norm(np.diff(xyz, axis=0), axis=1)
    if not len(steps) or steps.max() <= largest_step_m:
        return
    usual, first = float(np.median(steps[steps > 0])), int(np.argmax(steps > largest_step_m))
    if usual > largest_step_m:
        units = [name for factor, name in UNITS.items() if usual > factor * SHORTEST_STEP_M]
        found = f"steps of {usual:.4g} m (the median)"
        expected = f"metres, up to {largest_step_m:g} a frame; are these {' or '.join(units)}?"
        raise broken(path, field, found, expected)
    found = f"a jump of {steps[first]:.4g} m to frame {first + 1}"
    raise broken(path, field, found, f"steps of up to {largest_step_m:g} m")


def check_standing(poses: np.ndarray, num_moves: int, path: Path, field: str) -> None:
    """Check that poses (T, N) of a robot with so many motions are not one repeated pose."""
    if num_moves >= FEWEST_MOVES and np.ptp(poses, axis=0).max() <= LEAST_MOVED:
        found = f"the same pose at all {len(poses)} frames, and {num_moves} motions"
        raise broken(path, field, found, "the pose of each frame")


def check_moves(led: np.ndarray, xy: np.ndarray, path: Path, field: str) -> None:
    """Check that a robot with forward actions (T,) moved, by its positions (T, 2)."""
    forward = int((led == Action.FORWARD).sum())
    went_m = float(np.linalg.norm(np.diff(xy, axis=0), axis=1).sum())
    if forward >= FEWEST_FORWARD and went_m < STANDS_M * forward:
        expected = "metres: about 0.25 in each"
        raise broken(path, field, f"{went_m:.3g} m in {forward} forward actions", expected)


def check_matrices(T_world_camera: np.ndarray, path: Path, field: str) -> None:
    """Check (T, 4, 4): rotations, and a last row of 0, 0, 0, 1."""
    rotation = T_world_camera[:, :3, :3]
    off = np.abs(np.swapaxes(rotation, 1, 2) @ rotation - np.eye(3)).max(axis=(1, 2))
    wrong = (off > ROTATION_TOLERANCE) | (np.linalg.det(rotation) < 0)
    last = np.abs(T_world_camera[:, 3] - [0, 0, 0, 1]).max(axis=1) > ROTATION_TOLERANCE
    if wrong.any():
        frame = int(np.argmax(wrong))
        found = f"axes {np.round(rotation[frame], 2).tolist()} at frame {frame}"
        raise broken(path, field, found, "a rotation: right-angled axes of length 1")
    if last.any():
        frame = int(np.argmax(last))
        found = f"a last row of {np.round(T_world_camera[frame, 3], 3).tolist()} at frame {frame}"
        expected = "[0, 0, 0, 1]: positions are the last column"
        raise broken(path, field, found, expected)


def check_camera_axes(
    T_world_camera: np.ndarray,
    pitch: float,
    path: Path,
    field: str,
    tolerance: float = PITCH_TOLERANCE,
) -> None:
    """Check (T, 4, 4) with x right, y down, z forward: upright, looking down by `pitch`, rad."""
    right, forward = T_world_camera[:, 2, 0], T_world_camera[:, 2, 2]
    found_pitch = _median(np.arcsin(np.clip(-forward, -1, 1)))
    roll = _median(np.abs(np.arcsin(np.clip(right, -1, 1))))
    upright = _median(T_world_camera[:, 2, 1]) < 0
    if upright and roll <= LARGEST_ROLL and abs(found_pitch - pitch) <= tolerance:
        return
    found = (
        f"a camera that looks down by {np.degrees(found_pitch):.0f}° and leans by"
        f" {np.degrees(roll):.0f}°{'' if upright else ', upside down'} (medians)"
    )
    expected = (
        f"{np.degrees(pitch):.0f}° down, camera to world: columns are x right, y down, z forward,"
        " position, in a world whose z points up"
    )
    raise broken(path, field, found, expected)


def check_heading(
    poses: np.ndarray,
    path: Path,
    field: str,
    largest: float = ASIDE,
    moves: np.ndarray | None = None,
) -> None:
    """Check that a robot at poses (T, 3) x, y, yaw goes where it faces, by the median over its
    steps, or over those marked in `moves` (T - 1,).
    """
    steps = np.diff(poses[:, :2], axis=0)
    counted = np.linalg.norm(steps, axis=1) > SHORTEST_STEP_M
    if moves is not None:
        counted &= moves
    if counted.sum() < FEWEST_STEPS:
        return
    bearing = np.arctan2(steps[:, 1], steps[:, 0]) - poses[:-1, 2]
    aside = _median(np.abs(wrap_angle(bearing[counted])))
    if aside > largest:
        found = f"steps {np.degrees(aside):.0f}° aside of where the robot faces (the median)"
        expected = "steps ahead: a yaw in radians, counter-clockwise, 0 along x, z up"
        raise broken(path, field, found, expected)


def _median(values: np.ndarray) -> float:
    """Return the median of finite numbers (N,); numpy's takes ten times as long for an episode."""
    ordered, middle = np.sort(values), len(values) // 2
    return float(ordered[middle] if len(values) % 2 else ordered[middle - 1 : middle + 1].mean())


def check_yaw(yaw: np.ndarray, path: Path, field: str) -> None:
    """Check that (T,) can be radians."""
    size, turns = np.abs(yaw), np.abs(np.diff(yaw))
    if size.max() <= FULL_TURN + 0.1:
        return
    jumps = len(turns) and np.quantile(turns[turns > 1e-3] if (turns > 1e-3).any() else turns, 0.9)
    if jumps > LARGEST_TURN or size.min() > 2 * FULL_TURN:
        frame = int(size.argmax())
        raise broken(
            path, field, f"{yaw[frame]:.4g} at frame {frame}", "radians; are these degrees?"
        )
