"""Reader of VLN-CE episodes as StreamVLN publishes them: an image per step, discrete actions.

    <root>/<set>/annotations.json
    <root>/<set>/images/<scene>_<set>_<number>/rgb/000.jpg      steps from 0 or from 1

annotations.json is a list of

    {"id": 577, "video": "images/17DRP5sb8fy_r2r_000577", "instructions": ["Walk ..."],
     "actions": [-1, 1, 1, 3]}

with the action that LED TO each frame, as in `vln_ce`: -1 for the first, 1 forward 0.25 m, 2 left
15°, 3 right 15°; the stop after the last frame is not written, or is a 0 more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import is_foreign
from internnav_hf.data.readers.json_files import check_text, read_json
from internnav_hf.geometry import Action

ANNOTATIONS_FILE = "annotations.json"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
NO_ACTION = -1
_KNOWN_ACTIONS = (NO_ACTION, Action.STOP, Action.FORWARD, Action.TURN_LEFT, Action.TURN_RIGHT)


@dataclass(frozen=True)
class RecordedTrajectory:
    """`frames` in order of time; `actions`, one for each, led to them."""

    name: str
    instructions: tuple[str, ...]
    frames: tuple[Path, ...]
    actions: tuple[int, ...]

    @property
    def scene(self) -> str:
        """The first part of the name."""
        return self.name.split("_")[0]

    @property
    def number(self) -> str:
        """The last part of the name."""
        return self.name.split("_")[-1]


def read_annotations(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """(`file, entry i`, entry) of a set's annotations; one ValueError if there are none."""
    path = folder / ANNOTATIONS_FILE
    if not path.is_file():
        sets = sorted(other.parent.name for other in folder.parent.glob(f"*/{ANNOTATIONS_FILE}"))
        expected = f"a list of walks; {folder.parent} has such files for {sets}"
        raise broken(path, "file", "no file", expected)
    entries = read_json(path, list, "a list of walks")
    if not entries:
        raise broken(path, "file", "no entry", "a list of walks")
    return [(f"{path}, entry {index}", entry) for index, entry in enumerate(entries)]


def read_trajectories(
    folder: Path, start: int = 0, end: int | None = None
) -> Iterator[RecordedTrajectory | ValueError]:
    """Yield the episodes of a set, from entry `start` up to `end`; for a broken one, its error."""
    for where, entry in read_annotations(folder)[start:end]:
        try:
            yield _trajectory(folder, where, entry)
        except ValueError as error:
            yield error


def _trajectory(folder: Path, where: str, entry: Any) -> RecordedTrajectory:
    if not isinstance(entry, dict):
        raise broken(where, "entry", shown(entry), "an object with video and actions")
    video, actions = entry.get("video"), entry.get("actions")
    if not isinstance(video, str) or not _is_below(video):
        raise broken(where, "video", shown(video), "a folder below this file's, <scene>_..._<n>")
    instructions = entry.get("instructions") or []
    texts = [instructions] if isinstance(instructions, str) else instructions
    if not isinstance(texts, list) or not texts:
        raise broken(where, "instructions", shown(instructions), "a list of texts")
    for text in texts:
        check_text(where, "instructions", text, "a list of texts")
    are_known = isinstance(actions, list) and all(type(a) is int for a in actions)
    if not are_known or not set(actions) <= set(_KNOWN_ACTIONS):
        raise broken(where, "actions", shown(actions), f"a list of {[*map(int, _KNOWN_ACTIONS)]}")
    _check_leading(where, actions)
    frames = frame_files(folder / video / "rgb")
    if len(actions) == len(frames) + 1 and actions[-1] == Action.STOP:
        actions = actions[:-1]
    if len(actions) != len(frames) or actions[-1] == Action.STOP:
        expected = f"{len(frames)}, as many as images in {folder / video / 'rgb'}"
        if len(actions) == len(frames):
            expected += ", that led to each: a stop leads to none"
        raise broken(where, "actions", f"{len(actions)} of them", expected)
    return RecordedTrajectory(Path(video).name, tuple(texts), tuple(frames), tuple(actions))


def _check_leading(where: str, actions: Sequence[int]) -> None:
    """Check that no action led to the first frame, and an action but no stop to every other."""
    end = len(actions) - (actions[-1:] == [Action.STOP])
    wrong = [i for i, a in enumerate(actions[:end]) if (a == NO_ACTION) != (i == 0) or a == 0]
    if wrong:
        hint = "" if wrong[0] else "; actions taken AT each frame begin with a step or a turn"
        expected = f"-1 at the first frame alone, and then what led to each frame{hint}"
        raise broken(where, "actions", f"{actions[wrong[0]]} at frame {wrong[0]}", expected)


def _is_below(video: str) -> bool:
    """Return whether a name stays inside the set's folder, and its parts inside any other."""
    words = Path(video).name.split("_")
    climbs = Path(video).is_absolute() or ".." in Path(video).parts
    return not climbs and not {"", ".", ".."} & {words[0], words[-1]}


def frame_files(folder: Path) -> list[Path]:
    """Return images in order of their number, 2.jpg before 10.jpg. ValueError if one is missing."""
    if not folder.is_dir():
        raise broken(folder, "folder", "no folder", "the images of a walk")
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_foreign(path.name)
    ]
    unnumbered = sorted(path.name for path in files if not path.stem.isdecimal())
    if unnumbered:
        raise broken(folder, "image", unnumbered[0], "a number: 000.jpg, 001.jpg, ...")
    files.sort(key=lambda path: int(path.stem))
    numbers = [int(path.stem) for path in files]
    if not numbers or numbers[0] > 1:
        raise broken(folder, "images", "none" if not numbers else numbers[0], "number 0 or 1 first")
    for before, number in pairwise(numbers):
        if number != before + 1:
            raise broken(folder, "images", f"number {number} after {before}", before + 1)
    return files
