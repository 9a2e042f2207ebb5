"""Checks of whole episodes: actions that agree with the poses, metres and radians, a final stop,
and depth in the expected unit, for each episode and for all of a folder together.

T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.data.checks.actions import (
    LED_TO_FRAME,
    TOO_EARLY,
    Transitions,
    check_agreement,
    hint,
    wrong_together,
)
from internnav_hf.data.checks.cameras import check_recorded_size, floor_view, recorded_values
from internnav_hf.data.checks.depth import check_farthest, depth_problems
from internnav_hf.data.checks.poses import (
    check_heading,
    check_moves,
    check_positions,
    check_standing,
    check_yaw,
)
from internnav_hf.data.formats.vln_pe.frames import FrameRules, RecordedFrames
from internnav_hf.data.formats.vln_pe.reader import (
    ACTION,
    EXPERT_ACTIONS,
    POSITION,
    PREVIOUS_ACTION,
    PROGRESS,
    SUCCESS,
    YAW,
    WholeWalk,
)
from internnav_hf.data.readers.errors import broken, problems_of
from internnav_hf.geometry import Action

SHIFTS = {-1: TOO_EARLY, 1: LED_TO_FRAME}
NOTHING = -1
LARGEST_PROGRESS = 1.5
LARGEST_LOSS = 0.3  # of progress
FAR_M = 2.0  # a robot that gets so far away has seen as far
PLANS_AGREE = 0.9  # share of the plans that begin with the expert's action


@dataclass(frozen=True, eq=False)
class CheckedWalk:
    """An episode with sound values, its frames, and what is judged together with other episodes:
    `size` (width, height) of the colours, `metres` (N,) of some pixels of arrays (None: images),
    and what is `wrong` with their unit.
    """

    walk: WholeWalk
    frames: RecordedFrames
    size: tuple[int, int]
    metres: np.ndarray | None
    wrong: str

    @classmethod
    def of(cls, walk: WholeWalk, rules: FrameRules) -> "CheckedWalk":
        """Check an episode; ValueError if a value or a file is broken."""
        check_walk(walk)
        record, unit = walk.record, walk.record.unit
        place = (unit.parents[1], "/".join(unit.parts[-2:]), record.episode_index, walk.length)
        frames = RecordedFrames(*place, rules)
        size = frames.check()
        try:
            return cls(walk, frames, size, frames.check_depth_unit(), "")
        except ValueError as error:
            return cls(walk, frames, size, None, str(error))

    @property
    def reach_m(self) -> float:
        """Largest distance of the robot from its first position, in metres."""
        xy = self.walk.columns[POSITION][:, :2]
        return float(np.linalg.norm(xy - xy[0], axis=1).max())

    @cached_property
    def transitions(self) -> Transitions:
        """Actions, and the motions that followed."""
        return Transitions.of(self.walk.columns[PREVIOUS_ACTION], self.walk.poses)


def sound_walks(unit: Path, walks: Sequence[CheckedWalk]) -> tuple[list[CheckedWalk], list[str]]:
    """Return the episodes that agree with themselves, with the recorded camera and with the others
    of the folder, and a sentence about each other one.
    """
    camera, wrong = recorded_values(unit), {}
    for check in (_sizes, _units, _actions, _images):
        rest = [walk for walk in walks if walk not in wrong]
        wrong |= check(unit, rest, camera) if rest else {}
    return [walk for walk in walks if walk not in wrong], list(wrong.values())


Problems = dict[CheckedWalk, str]


def _sizes(unit: Path, walks: Sequence[CheckedWalk], camera: dict[str, float]) -> Problems:
    return problems_of(walks, lambda walk: check_recorded_size(unit, camera, walk.size))


def _actions(unit: Path, walks: Sequence[CheckedWalk], camera: dict[str, float]) -> Problems:
    """Check the action convention of all together, then of each."""
    wrong = wrong_together({w: w.transitions for w in walks}, SHIFTS, unit / "data", ACTION)
    rest = [walk for walk in walks if walk not in wrong]
    return wrong | problems_of(
        rest, lambda w: check_agreement(w.transitions, SHIFTS, w.walk.record.path, ACTION)
    )


def _units(unit: Path, walks: Sequence[CheckedWalk], camera: dict[str, float]) -> Problems:
    """Check depth arrays: if most are wrong, small numbers in the others prove nothing."""
    wrong = {walk: walk.wrong for walk in walks if walk.wrong}
    if 2 * len(wrong) > len(walks):
        return dict.fromkeys(walks, next(iter(wrong.values())))
    arrays = [walk for walk in walks if walk.metres is not None and not walk.wrong]
    if not arrays:
        return wrong
    wrong |= problems_of([walk for walk in arrays if walk.reach_m >= FAR_M], _check_farthest)
    rest = [walk for walk in arrays if walk not in wrong] or arrays
    try:
        metres = np.concatenate([walk.metres for walk in rest if walk.metres is not None])
        check_farthest(metres, unit, rest[0].frames.depth_unit_m)
    except ValueError as error:
        wrong |= dict.fromkeys(arrays, str(error))
    return wrong


def _check_farthest(walk: CheckedWalk) -> None:
    check_farthest(walk.metres, walk.frames.files("depth")[0], walk.frames.depth_unit_m)


def _images(unit: Path, walks: Sequence[CheckedWalk], camera: dict[str, float]) -> Problems:
    """Check depth by the floor if the camera is known, else by typical rooms."""
    if walks[0].frames.is_splat:
        return {}

    def read(walk: CheckedWalk, frame: int) -> tuple[Path, np.ndarray]:
        files = walk.frames.files("depth")
        return files[frame if len(files) > 1 else 0], walk.frames.depth_image(frame)

    tells_floor = {"hfov_deg", "height_m", "pitch_deg", "width", "height"} <= camera.keys()
    spec = CameraSpec.from_dict(camera) if tells_floor else None
    views = [floor_view(spec) if spec else None] * len(walks)
    lengths = [walk.walk.length for walk in walks]
    return depth_problems(walks, lengths, views, read, unit, walks[0].frames.units_per_m)


def check_walk(walk: WholeWalk) -> None:
    """Check that a robot goes where it faces, in metres and radians, and stops once, at the end."""
    path, columns = walk.record.path, walk.columns
    position, led = columns[POSITION], columns[PREVIOUS_ACTION]
    check_positions(position, path, POSITION)
    check_yaw(columns[YAW], path, YAW)
    if walk.record.finish_status == SUCCESS:
        check_moves(led, position[:, :2], path, POSITION)
        check_standing(position, int((led == Action.FORWARD).sum()), path, POSITION)
        _check_progress(columns[PROGRESS], path)
    check_heading(walk.poses, path, YAW, moves=led[1:] == Action.FORWARD)
    if (highest := columns[PROGRESS].max()) > LARGEST_PROGRESS:
        raise broken(path, PROGRESS, f"{highest:.4g}", "a share, up to 1; is this percent?")
    _check_stops(walk, path)
    if EXPERT_ACTIONS in columns:
        _check_plans(columns[ACTION], columns[EXPERT_ACTIONS][:, 0], path)


def _check_progress(progress: np.ndarray, path: Path) -> None:
    """Check that a successful episode made progress."""
    if progress[-1] < progress[0] - LARGEST_LOSS:
        found = f"{progress[0]:.3g} at first and {progress[-1]:.3g} at last"
        raise broken(path, PROGRESS, found, "a share that grows, as the walk succeeded")


def _check_plans(actions: np.ndarray, first: np.ndarray, path: Path) -> None:
    """Check that the expert's plans begin with its actions (T,), not those of frames beside."""
    for shift, name in ((1, "before"), (-1, "after")):
        moved = np.roll(actions, shift)[1:-1]
        agree, shifted = (np.mean(a == first[1:-1]) for a in (actions[1:-1], moved))
        if agree < PLANS_AGREE <= shifted:
            found = f"the first actions of the plans of the frames {name}"
            raise broken(path, EXPERT_ACTIONS, found, f"those that {ACTION} has at each frame")


def _check_stops(walk: WholeWalk, path: Path) -> None:
    """Check that no action follows a stop, and that one led to each frame but the first."""
    led = walk.columns[PREVIOUS_ACTION]
    done = led[1:]
    stops, others = np.flatnonzero(done == Action.STOP), np.flatnonzero(done != Action.STOP)
    if len(stops) and len(others) and stops[0] < others[-1]:
        found = f"a stop at frame {stops[0]} of {len(led)}, and the walk goes on"
        raise broken(path, ACTION, found, f"a stop at the end{hint(led, walk.poses, SHIFTS)}")
    nothing = np.flatnonzero(done == NOTHING)
    if len(nothing):
        found = f"{NOTHING} at frame {nothing[0] + 1}"
        raise broken(path, PREVIOUS_ACTION, found, f"{NOTHING} at the first frame alone")
