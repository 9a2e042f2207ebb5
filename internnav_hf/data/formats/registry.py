"""User-defined formats, and detection of the format of a data root.

    register_format("my_logs", "log.json", read_my_logs)

`read_my_logs(folder)` yields a row for each episode of a folder that holds a file `log.json`: a
dictionary of `data.index.COLUMNS`, as many as the data have. Every task whose columns are there
trains on it: `NavDPDataset(data_root)`, `System2Dataset(data_root, "my_logs")`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from internnav_hf.camera import CameraSpec
from internnav_hf.data.formats.vln_ce.index import vln_ce
from internnav_hf.data.formats.vln_ce.names import (
    DatasetName,
    camera_settings,
    parse_dataset_names,
    scene_folders,
)
from internnav_hf.data.formats.vln_n1.index import ReadingRules, vln_n1
from internnav_hf.data.formats.vln_n1.reader import group_folder
from internnav_hf.data.formats.vln_pe.index import ReadingRules as ScanRules
from internnav_hf.data.formats.vln_pe.index import vln_pe
from internnav_hf.data.formats.vln_pe.reader import tells_how_it_ended
from internnav_hf.data.index import COLUMNS, Reading, Source
from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.folders import subfolders, walk_folders
from internnav_hf.data.tables import described, folder_stamps

Row = Mapping[str, Any]
FORMATS: dict[str, Callable[[Path], Source]] = {}
NUM_TRIED = 5  # folders with episodes that are inspected
_SCHEMA = pa.schema(
    [described(c.name, c.type, c.metadata[b"meaning"].decode()) for c in COLUMNS.values()]
)


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

    def source(data_root: Path) -> Source:
        def find_folders() -> list[Path]:
            folders = walk_folders(data_root, lambda _: False) if data_root.is_dir() else ()
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
        place = (data_root, str(data_root), name)
        return Source(*place, key, _SCHEMA, find_folders, rows, folder_stamps)

    FORMATS[name] = source


def _whole_row(data_root: Path, folder: Path, given: Row) -> dict[str, Any]:
    row = {"unit": str(folder.relative_to(data_root)), **_camera_columns(given), **given}
    row.pop("camera", None)
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


def _camera_columns(given: Row) -> dict[str, Any]:
    camera: CameraSpec | None = given.get("camera")
    if camera is None:
        return {}
    return {
        "width": camera.width,
        "height": camera.height,
        "focal": camera.intrinsics[[0, 1], [0, 1]],
        "center": camera.intrinsics[:2, 2],
        "height_m": camera.height_m,
        "pitch": float(np.radians(camera.pitch_deg)),
        "depth_scale": camera.depth_scale,
    }


@dataclass(frozen=True)
class FormatName:
    """Data set named after its registered format; its folder is all of `data_root`."""

    name: str
    folder: str = ""
    percent: int = 100

    def __str__(self) -> str:
        return self.name


def dataset_names(names: str | Sequence[str]) -> list[DatasetName | FormatName]:
    """Parse `vln_ce` datasets and names of registered formats, comma separated or a list."""
    words = [word.strip() for word in (names.split(",") if isinstance(names, str) else names)]
    own = [word for word in words if word in FORMATS]
    if not own:
        return list(parse_dataset_names(words))
    return [FormatName(w) if w in FORMATS else DatasetName.parse(w) for w in words if w]


def named_source(
    data_root: Path, name: DatasetName | FormatName, needs_depth: bool = False
) -> Source:
    """Return the data set of one of `dataset_names`."""
    if isinstance(name, FormatName):
        return FORMATS[name.name](data_root)
    return vln_ce(data_root, name, needs_depth)


def sources_below(data_root: Path, rules: ReadingRules, cache_dir: Path) -> list[Source]:
    """Return the data sets with poses and depth below a root of any format: `groups` of the
    rules are groups of `vln_n1`, scans of `vln_pe`, or datasets of `vln_ce`, with their camera
    (`r2r_125cm_0_30`, whose look-down view is meant) or without, if there is depth of one alone.
    """
    for source in (make(data_root) for make in FORMATS.values()):
        if _has_folders(source):
            return [source]
    kind = _kind_below(data_root, rules.groups)
    if kind == "vln_ce":
        groups = rules.groups or [folder.name for folder in subfolders(data_root)]
        return [vln_ce(data_root, _depth_camera(data_root, group), True) for group in groups]
    if kind == "vln_pe":
        return [vln_pe(data_root, ScanRules(rules.groups))]
    return [vln_n1(data_root, rules, cache_dir)]


def _has_folders(source: Source) -> bool:
    try:
        return bool(source.find_folders())
    except ValueError:
        return False


def _kind_below(data_root: Path, groups: Sequence[str] | None) -> str:
    """Detect the format by the first folders with episodes; `vln_n1` if undecided."""
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
    return "vln_n1"


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
        expected = f"one: name it, as in groups={names[0]!r}" if found else "those of a camera"
        place = data_root / group
        raise broken(place, "depth", f"images of {', '.join(found) or 'no camera'}", expected)
    height, pitch = found[0].removesuffix("deg").split("cm_")
    name = DatasetName(group, int(height), int(pitch), int(pitch))
    scene_folders(data_root, name)
    return name
