"""What tasks share: the columns of an episode that each needs, of whatever format, and datasets of
samples over a table of episodes.
"""

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset

from internnav_hf.camera import CameraSpec
from internnav_hf.data.episode import is_simulated
from internnav_hf.data.formats.registry import SCHEMAS, Reader, dataset_names
from internnav_hf.data.index import COLUMNS, DEFAULT_CACHE, EpisodeTable, Source, open_episodes
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.rows import EpisodeRow, camera_columns, camera_of

CAMERA = ("focal", "center", "height_m", "pitch")
SEEN = ("poses", "depth_file", "depth_scale", *CAMERA)


@dataclass(frozen=True)
class Task:
    """A task needs the columns `needed`; those in `derived` may also follow from others.

    `native` is the format of folders that show none.
    """

    name: str
    native: str
    needed: tuple[str, ...]
    derived: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def lacks(self, names: Iterable[str]) -> list[str]:
        """Return the needed columns that are neither among `names` nor follow from them."""
        there, missing = set(names), []
        for name in self.needed:
            if name not in there and not there.issuperset(self.derived.get(name, [name])):
                missing.append(name)
        return missing

    def formats(self) -> dict[str, list[str]]:
        """Return by format the columns that it lacks: none if the task trains on it."""
        return {name: self.lacks(schema.names) for name, schema in SCHEMAS.items()}

    def words(self) -> str:
        """Return the formats that it trains on, for a help text."""
        found = [name for name, missing in self.formats().items() if not missing]
        return f"{', '.join(found)} or a registered format"

    def check(self, source: Source, names: Iterable[str]) -> None:
        """Raise ValueError if the columns `names` of a data set are too few."""
        missing = self.lacks(names)
        if not missing:
            return
        others = dict.fromkeys(c for m in missing for c in self.derived.get(m, ()))
        unknown = [column for column in others if column not in {*names}]
        hint = f" (or {', '.join(unknown)}, from which they follow)" if unknown else ""
        if not {*missing, *unknown}.isdisjoint(CAMERA):
            hint += "; meta/info.json may record the camera, or pass camera="
        raise ValueError(
            f"{source.title} ({source.format}): found episodes without {', '.join(missing)},"
            f" expected {', '.join(self.needed)}: {self.name} learns from them{hint}"
        )

    def open(
        self,
        sources: Iterable[Source],
        cache_dir: Path,
        max_broken_fraction: float,
        camera: CameraSpec | None = None,
    ) -> list[EpisodeTable]:
        """Map or build the tables of data sets that have all columns. Where they record no camera,
        it is `camera`.
        """
        tables = []
        for source in sources:
            self.check(source, [*source.schema.names, *CAMERA * (camera is not None)])
            table = open_episodes(source, cache_dir, max_broken_fraction)
            episodes = table.episodes
            if camera is not None:
                episodes = _with_camera(episodes, camera, source.title)
            self.check(source, [n for n in episodes.column_names if not episodes[n].null_count])
            tables.append(replace(table, episodes=episodes))
        return tables

    def below(
        self,
        data_root: Path,
        groups: str | Iterable[str] | None,
        cache_dir: str | Path | None,
        *options: Any,
        **rules: Any,
    ) -> list[EpisodeTable]:
        """Map or build the tables of `groups` (comma separated or a list) below a root; `options`
        are those of `open`, `rules` those of `Reader`.
        """
        names = groups.split(",") if isinstance(groups, str) else groups
        reader = Reader(self.native, Path(cache_dir or DEFAULT_CACHE), **rules)
        return self.open(reader.below(data_root, names), reader.cache_dir, *options)


SYSTEM2 = Task(
    "System2",
    "vln_pe",
    ("instructions", "actions", "goal_frames", "goals", "rgb_file", "width"),
    {"goal_frames": SEEN, "goals": SEEN},
)
_PATHS = ("poses", "focal", "height_m", "pitch")
DUAL_SYSTEM = replace(SYSTEM2, name="the dual system", needed=(*SYSTEM2.needed, *_PATHS))
DEPTH = ("depth_file", "depth_scale")
NAVDP = Task("NavDP", "vln_n1", ("poses", "rgb_file", *DEPTH, "width", "focal", *_PATHS[2:]))
PLANNER = Task("iPlanner or ViPlanner", "vln_n1", ("poses", *DEPTH, "width", "focal", *_PATHS[2:]))
DDPPO = Task("DD-PPO", "vln_pe", ("poses", *DEPTH))
VLN = Task("Seq2Seq or CMA", "vln_pe", ("instructions", "actions", "rgb_file", *DEPTH))
RDP = replace(VLN, name="RDP", needed=(*VLN.needed, "poses"))
IMAGE_GOAL = Task("GNM, ViNT or NoMaD", "vln_n1", ("poses", "rgb_file", "width"))
TASKS = (SYSTEM2, DUAL_SYSTEM, NAVDP, PLANNER, DDPPO, VLN, RDP, IMAGE_GOAL)


def check_groups(
    task: Task,
    data_root: str | Path,
    groups: Sequence[str] | None,
    held_out: Sequence[str] | None = None,
) -> None:
    """Raise ValueError if groups or their episodes do not exist, or are of a format without the
    columns of the task; before anything is loaded.
    """
    for names in [groups, held_out] if held_out else [groups]:
        _check_sources(task, Reader(task.native, Path()).below(Path(data_root), names))


def check_datasets(task: Task, data_root: str | Path, *names: str | None) -> None:
    """Do as `check_groups` does, for names of datasets."""
    root, reader = Path(data_root), Reader(task.native, Path(), needs_depth=False)
    for given in filter(None, names):
        _check_sources(task, [reader.named(root, name) for name in dataset_names(root, given)])


def _check_sources(task: Task, sources: Iterable[Source]) -> None:
    for source in sources:
        source.find_folders()
        task.check(source, source.schema.names)


def _with_camera(episodes: pa.Table, camera: CameraSpec, title: str) -> pa.Table:
    """Fill in the camera's columns, its images' size and unit of depth, where they are null."""
    size = {"width": camera.width, "height": camera.height}
    for name, value in size.items():
        if found := sorted({*episodes[name].to_pylist()} - {value, None}):
            raise broken(title, name, f"images of {found} px", f"{value} px, as camera= says")
    is_recorded = True
    size |= {"depth_scale": camera.depth_scale}
    unknown = {name: value for name, value in size.items() if episodes[name].null_count}
    for name, value in (unknown | camera_columns(camera)).items():
        values, column = [None] * episodes.num_rows, COLUMNS[name]
        if name in episodes.column_names:
            values = episodes[name].to_pylist()
            episodes = episodes.drop_columns(name)
        is_recorded = is_recorded and None not in values
        filled = pa.array([value if v is None else v for v in values], column.type)
        episodes = episodes.append_column(column, filled)
    if is_recorded:
        raise broken(title, "camera", "one recorded for every episode", "no camera= then")
    return episodes


class EpisodeDataset(Dataset, Sized):
    """Samples of `episodes`, whose folder is `unit` below one of the `data_roots` (the number in a
    column `root`, or the first).
    """

    episodes: pa.Table
    data_roots: Sequence[Path]
    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other samples; workers see it when they start (not persistent ones)."""
        self.epoch = epoch

    @property
    def cameras(self) -> list[CameraSpec]:
        """All different cameras; published groups have several heights and lenses."""
        return cameras_in(self.episodes)

    @property
    def is_simulated(self) -> bool:
        """Return whether the embedded simulator wrote all groups."""
        return all(is_simulated(folders[0]) for folders in self.scenes().values())

    def scenes(self) -> dict[str, list[Path]]:
        """Return by group the first folder of each scene."""
        names = [n for n in ("root", "dataset", "unit") if n in self.episodes.column_names]
        rows = self.episodes.select(names).group_by(names).aggregate([]).to_pylist()
        rows.sort(key=lambda row: [row[name] for name in names])
        places, groups = set(), dict[str, list[Path]]()
        for row in rows:
            group, root = self._group(row), self.data_roots[row.get("root", 0)]
            place = (group, root, *row["unit"].split("/")[:2])
            if place not in places:
                places.add(place)
                groups.setdefault(group, []).append(root / row["unit"])
        return groups

    def _group(self, row: Mapping[str, Any]) -> str:
        return row["unit"].split("/")[0]

    def _episode(self, row: int) -> EpisodeRow:
        root = self.episodes["root"][row].as_py() if "root" in self.episodes.column_names else 0
        return EpisodeRow(self.episodes, row, self.data_roots[root])

    def _position(self, index: int) -> int:
        """Return the index from the start; numpy integers and negative indices are allowed."""
        position = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= position < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return position


def cameras_in(episodes: pa.Table) -> list[CameraSpec]:
    """Return all different cameras of some episodes, as far as they are known."""
    names = ["width", "height", "focal", "height_m", "pitch", "depth_scale"]
    if not set(names) <= set(episodes.column_names):
        return []
    # each once before it becomes a camera: there may be a million episodes
    focal = pc.list_element(episodes["focal"], 0)
    cameras = episodes.select(names).set_column(names.index("focal"), "focal", focal)
    cameras = cameras.filter(focal.is_valid()).group_by(names, use_threads=False).aggregate([])
    rows = (row | {"focal": [row["focal"]]} for row in cameras.to_pylist())
    return list(dict.fromkeys(map(camera_of, rows)))


def check_option(key: str, value: object, is_right: object, expected: str) -> None:
    """Raise ValueError for a wrong argument of a dataset."""
    if not is_right:
        raise ValueError(f"{key} is {value!r}; it must be {expected}")
