"""User-defined formats, and detection of the format of a data root.

    register_format("my_logs", "log.json", read_my_logs)

`read_my_logs(folder)` yields a row for each episode of a folder that holds a file `log.json`: a
dictionary of `data.index.COLUMNS`, as many as the data have. Every task whose columns are there
trains on it: `NavDPDataset(data_root)`, `System2Dataset(data_root, "my_logs")`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.data.formats import trajectories as trajectory_format
from internnav_hf.data.formats.trajectories import is_trajectory_root, trajectories
from internnav_hf.data.formats.vln_ce import index as vln_ce_index
from internnav_hf.data.formats.vln_ce.index import vln_ce
from internnav_hf.data.formats.vln_ce.names import (
    NAME_PATTERN,
    DatasetName,
    camera_settings,
    parse_dataset_names,
    scene_folders,
)
from internnav_hf.data.formats.vln_n1 import index as vln_n1_index
from internnav_hf.data.formats.vln_n1.index import ReadingRules as VLNN1Rules
from internnav_hf.data.formats.vln_n1.index import vln_n1
from internnav_hf.data.formats.vln_n1.ranges import STATS_FILE
from internnav_hf.data.formats.vln_n1.reader import group_folder
from internnav_hf.data.formats.vln_pe import index as vln_pe_index
from internnav_hf.data.formats.vln_pe.index import ReadingRules as VLNPERules
from internnav_hf.data.formats.vln_pe.index import vln_pe
from internnav_hf.data.formats.vln_pe.reader import mentions, tells_how_it_ended
from internnav_hf.data.index import COLUMNS, Reading, Source, episode_schema
from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import did_you_mean, subfolders, walk_folders
from internnav_hf.data.rows import camera_columns
from internnav_hf.data.tables import folder_stamps

Row = Mapping[str, Any]
FORMATS: dict[str, Callable[[Path, Sequence[str] | None], Source]] = {}
SCHEMAS = {"vln_ce": vln_ce_index.EPISODE_SCHEMA, "vln_n1": vln_n1_index.EPISODE_SCHEMA}
SCHEMAS["vln_pe"] = vln_pe_index.EPISODE_SCHEMA
SCHEMAS["trajectories"] = trajectory_format.EPISODE_SCHEMA
NUM_TRIED = 5  # folders with episodes that are inspected
_SCHEMA = episode_schema(*COLUMNS)


def register_format(
    name: str,
    marker: str,
    read: Callable[[Path], Iterator[Row | ValueError]],
    version: int = 1,
) -> None:
    """Let tasks read the format `name`: folders that hold a file like `marker`, `read` one by one.

    `read` yields rows of `data.index.COLUMNS`, and a ValueError for each broken episode; one that
    it raises breaks the folder. `poses` are (T, 3), `goals` (T, 2); `camera`, a `CameraSpec`,
    stands for the camera's columns and the size of the images; `unit` and `length` are filled in.
    Raise `version` when `read` changes.
    """

    def source(data_root: Path, groups: Sequence[str] | None = None) -> Source:
        def find_folders() -> list[Path]:
            tops = [top for top in map(data_root.joinpath, groups or [""]) if top.is_dir()]
            folders = (folder for top in tops for folder in walk_folders(top, lambda _: False))
            found = [folder for folder in folders if any(folder.glob(marker))]
            if not found:
                raise ValueError(f"{data_root}: found no folder with {marker}, of format {name}")
            return found

        def rows(folder: Path) -> Iterator[Reading]:
            for found in read(folder):
                try:
                    is_row = not isinstance(found, ValueError)
                    whole = _whole_row(data_root, folder, found) if is_row else found
                except ValueError as error:
                    whole = error
                yield whole

        key = [name, version]
        return Source(data_root, name, key, _SCHEMA, find_folders, rows, folder_stamps)

    FORMATS[name] = source


def _whole_row(data_root: Path, folder: Path, given: Row) -> dict[str, Any]:
    row = {"unit": str(folder.relative_to(data_root)), **given}
    if camera := row.pop("camera", None):
        names = ("width", "height", "depth_scale")
        row = {name: getattr(camera, name) for name in names} | camera_columns(camera) | row
    unknown = sorted(row.keys() - COLUMNS.keys())
    if unknown:
        raise broken(folder, "row", f"columns {unknown}", f"some of {list(COLUMNS)}")
    shapes = {"poses": (3,), "goals": (2,)}
    for name in ("poses", "actions", "goals", "goal_frames", "frames"):
        if name in row:
            where = f"{folder}, episode {row.get('episode_index')}"
            row[name] = values = _numbers(where, name, row[name], shapes.get(name, ()))
            if row.setdefault("length", len(values)) != len(values):
                raise broken(where, name, f"{len(values)} frames", row["length"])
            row[name] = values.ravel()
    return row


def _numbers(where: str, name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return (T, *shape), integers except for poses."""
    kind = "finite" if name == "poses" else "whole"
    expected = f"{kind} numbers of shape {('T', *shape)}".replace("'", "")
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise broken(where, name, f"{shown(given)} ({error})", expected) from error
    if values.shape[1:] != shape or not values.ndim or not np.isfinite(values).all():
        raise broken(where, name, shown(given), expected)
    if name == "poses":
        return values
    whole = values.astype(np.int32)
    if not np.array_equal(whole, values):
        raise broken(where, name, shown(given), expected)
    return whole


@dataclass(frozen=True)
class FolderName:
    """Data set named after its folder below the data root, or after its registered format."""

    folder: str
    percent: int = 100

    def __str__(self) -> str:
        return self.folder


def dataset_names(data_root: Path, names: str | Iterable[str]) -> list[DatasetName | FolderName]:
    """Parse datasets of `vln_ce` with their camera, folders of other formats, and registered
    formats, all with an optional `%N`; comma separated or a list.
    """
    words = [word.strip() for word in (names.split(",") if isinstance(names, str) else names)]
    found = [_dataset_name(data_root, word) for word in words if word]
    return found or [*parse_dataset_names(words)]


def _dataset_name(data_root: Path, word: str) -> DatasetName | FolderName:
    folder, sign, percent = word.partition("%")
    is_folder = folder and Path(folder).name == folder and (data_root / folder).is_dir()
    has_camera = NAME_PATTERN.fullmatch(word) or kind_below(data_root, [folder]) == "vln_ce"
    if folder not in FORMATS and (has_camera or not is_folder):
        if not has_camera:
            _check_folder(data_root, word, folder)
        return DatasetName.parse(word)
    if sign and not (percent.isdecimal() and 1 <= int(percent) <= 100):
        raise ValueError(f"Dataset name {word!r}: %{percent} must lie between %1 and %100")
    return FolderName(folder, int(percent or 100))


def _check_folder(data_root: Path, word: str, folder: str) -> None:
    """Refuse a missing folder of a root whose data sets are named by folders alone."""
    known = [child.name for child in subfolders(data_root)] if data_root.is_dir() else []
    if folder not in known and kind_below(data_root, None) not in (None, "vln_ce"):
        hint = did_you_mean(folder, known)
        raise ValueError(f"Unknown dataset {word!r}: {data_root} has no folder {folder!r}.{hint}")


@dataclass(frozen=True)
class Reader:
    """How formats are read: `native` is the format of folders that show none, the others are rules
    of one format.
    """

    native: str
    cache_dir: Path
    needs_depth: bool = True
    vln_n1: VLNN1Rules = field(default_factory=VLNN1Rules)
    vln_pe: VLNPERules = field(default_factory=VLNPERules)

    def named(self, data_root: Path, name: DatasetName | FolderName) -> Source:
        """Return the data set of one of `dataset_names`."""
        if isinstance(name, DatasetName):
            return vln_ce(data_root, name, self.needs_depth)
        if name.folder in FORMATS:
            return FORMATS[name.folder](data_root, None)
        return self.below(data_root, [name.folder])[0]

    def below(self, data_root: Path, groups: Iterable[str] | None = None) -> list[Source]:
        """Return the data sets below a root of any format: `groups` are groups of `vln_n1`, scans
        of `vln_pe`, names of `trajectories`, top folders of a registered format, or datasets of
        `vln_ce`, with their camera (`r2r_125cm_0_30`, whose look-down view is meant) or without,
        if there is depth of one alone.
        """
        groups = None if groups is None else tuple(groups)
        for source in (make(data_root, groups) for make in FORMATS.values()):
            if _has_folders(source):
                return [source]
        kind = kind_below(data_root, groups) or self.native
        if kind == "vln_ce":
            names = groups or [folder.name for folder in subfolders(data_root)]
            return [vln_ce(data_root, _depth_camera(data_root, name), True) for name in names]
        if kind == "trajectories":
            return [trajectories(data_root, groups)]
        if kind == "vln_pe":
            return [vln_pe(data_root, replace(self.vln_pe, scans=groups))]
        return [vln_n1(data_root, replace(self.vln_n1, groups=groups), self.cache_dir)]


def _has_folders(source: Source) -> bool:
    try:
        return bool(source.find_folders())
    except ValueError:
        return False


def kind_below(data_root: Path, groups: Sequence[str] | None) -> str | None:
    """Detect one of our formats by the first folders with episodes; None if undecided."""
    if is_trajectory_root(data_root):
        return "trajectories"
    tops = [data_root / group_folder(data_root, group) for group in groups or ("",)]
    folders = (
        folder
        for top in tops
        if top.is_dir()
        for folder in walk_folders(top, _has_data)
        if _has_data(folder)
    )
    for folder in islice(folders, NUM_TRIED):
        if any(folder.glob("videos/chunk-*/observation.images.rgb.*")):
            return "vln_ce"
        if tells_how_it_ended(folder):
            return "vln_pe"
        if mentions(folder / STATS_FILE, b'"image_index"'):
            return "vln_n1"
    return None


def _has_data(folder: Path) -> bool:
    return (folder / "data").is_dir()


def _depth_camera(data_root: Path, group: str) -> DatasetName:
    """Return the source of the view with depth; the ordinary view is not needed."""
    if group_folder(data_root, group) != group:
        name = DatasetName.parse(group)
        return replace(name, pitch_deg=name.look_down_pitch_deg)
    scenes = subfolders(data_root / group)
    found = sorted({setting for scene in scenes for setting in camera_settings(scene, "depth")})
    if len(found) != 1:
        names = [f"{group}_{s.removesuffix('deg')}_{s.rpartition('_')[2][:-3]}" for s in found]
        expected = f"one: name it, as in {names[0]!r}" if found else "those of a camera"
        place = data_root / group
        raise broken(place, "depth", f"images of {', '.join(found) or 'no camera'}", expected)
    height, pitch = found[0].removesuffix("deg").split("cm_")
    name = DatasetName(group, int(height), int(pitch), int(pitch))
    scene_folders(data_root, name)
    return name
