"""Whether a whole walk is one: actions that the poses bear out, metres and radians, a stop at the
end, and depth in the unit that is meant, for each episode and for all of a folder together.

T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..camera import CameraSpec
from ..geometry import Action
from .action_checks import LED_TO_FRAME, TOO_EARLY, Transitions, check_agreement, hint
from .camera_checks import check_recorded_size, floor_view, recorded_values
from .depth_checks import NUM_PROBES, check_depth, check_farthest
from .episode import broken, parquet_path
from .pose_checks import check_heading, check_moves, check_positions, check_yaw
from .vln_pe import (
    ACTION,
    EXPERT_ACTIONS,
    POSITION,
    PREVIOUS_ACTION,
    PROGRESS,
    SUCCESS,
    YAW,
    WholeWalk,
)
from .vln_pe_frames import FrameRules, RecordedFrames

SHIFTS = {-1: TOO_EARLY, 1: LED_TO_FRAME}
NOTHING = -1
LARGEST_PROGRESS = 1.5
PLANS_AGREE = 0.9  # share of the plans that begin with the expert's action


@dataclass(frozen=True, eq=False)
class CheckedWalk:
    """A walk whose values are sound, its frames, and what takes those of other walks to judge:
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
        """ValueError where a value or a file is broken."""
        check_walk(walk)
        frames = walk.frames(rules)
        size = frames.check()
        try:
            return cls(walk, frames, size, frames.check_depth_unit(), "")
        except ValueError as error:
            return cls(walk, frames, size, None, str(error))

    @property
    def path(self) -> Path:
        """Of its parquet file."""
        return parquet_path(self.walk.root, self.walk.episode_index)

    @property
    def transitions(self) -> Transitions:
        """What was done and what came of it."""
        return Transitions.of(self.walk.columns[PREVIOUS_ACTION], self.walk.poses)


def sound_walks(unit: Path, walks: Sequence[CheckedWalk]) -> tuple[list[CheckedWalk], list[str]]:
    """Those that agree with themselves, and a sentence about each other one. Where all of a folder
    together do not, none is sound.
    """
    try:
        if walks:
            _check_unit(unit, walks)
    except ValueError as error:
        return [], [str(error)] * len(walks)
    sound, problems = [], []
    for walk in walks:
        try:
            if walk.wrong:
                raise ValueError(walk.wrong)
            check_agreement(walk.transitions, SHIFTS, walk.path, ACTION)
            sound.append(walk)
        except ValueError as error:
            problems.append(str(error))
    return sound, problems


def _check_unit(unit: Path, walks: Sequence[CheckedWalk]) -> None:
    """Of a folder: its camera, its actions' convention, the unit of its depth."""
    camera = recorded_values(unit)
    for walk in walks:
        check_recorded_size(unit, camera, walk.size)
    check_agreement(Transitions.joined(w.transitions for w in walks), SHIFTS, unit / "data", ACTION)
    wrong = [walk for walk in walks if walk.wrong]
    if 2 * len(wrong) > len(walks):
        raise ValueError(wrong[0].wrong)
    right = [walk for walk in walks if not walk.wrong]
    arrays = [walk.metres for walk in right if walk.metres is not None]
    if arrays:
        check_farthest(np.concatenate(arrays), unit, right[0].frames.depth_unit_m)
    if not right[0].frames.is_splat:
        _check_some_images(unit, right, camera)


def _check_some_images(unit: Path, walks: Sequence[CheckedWalk], camera: dict[str, float]) -> None:
    """By the floor where the camera is told, else by what rooms are like."""
    frames = [(walk, frame) for walk in walks for frame in range(walk.walk.length)]
    chosen = np.unique(np.linspace(0, len(frames) - 1, NUM_PROBES).astype(int))
    images = [frames[i][0].frames.depth_image(frames[i][1]) for i in chosen]
    tells_floor = {"hfov_deg", "height_m", "pitch_deg", "width", "height"} <= camera.keys()
    views = None
    if tells_floor:
        spec = CameraSpec.from_dict(camera)
        views = [floor_view(spec, spec.pitch_deg)] * len(images)
    check_depth(images, views, unit, walks[0].frames.units_per_m)


def check_walk(walk: WholeWalk) -> None:
    """A robot that goes where it faces, in metres and radians, and stops once, at the end."""
    path, columns = parquet_path(walk.root, walk.episode_index), walk.columns
    position, led = columns[POSITION], columns[PREVIOUS_ACTION]
    check_positions(position, path, POSITION)
    check_yaw(columns[YAW], path, YAW)
    if walk.finish_status == SUCCESS:
        check_moves(led, position[:, :2], path, POSITION)
    check_heading(walk.poses, path, YAW, moves=led[1:] == Action.FORWARD)
    if (highest := columns[PROGRESS].max()) > LARGEST_PROGRESS:
        raise broken(path, PROGRESS, f"{highest:.4g}", "a share, up to 1; is this percent?")
    _check_stops(walk, path)
    if EXPERT_ACTIONS in columns:
        _check_plans(columns[ACTION], columns[EXPERT_ACTIONS][:, 0], path)


def _check_plans(actions: np.ndarray, first: np.ndarray, path: Path) -> None:
    """The expert's plans begin with its actions (T,), and not with those of the frames beside."""
    for shift, name in ((1, "before"), (-1, "after")):
        moved = np.roll(actions, shift)[1:-1]
        agree, shifted = (np.mean(a == first[1:-1]) for a in (actions[1:-1], moved))
        if agree < PLANS_AGREE <= shifted:
            found = f"the first actions of the plans of the frames {name}"
            raise broken(path, EXPERT_ACTIONS, found, f"those that {ACTION} has at each frame")


def _check_stops(walk: WholeWalk, path: Path) -> None:
    """Nothing is done after a stop, and something led to each frame but the first."""
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
