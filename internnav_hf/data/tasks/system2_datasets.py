"""System2's datasets: one table of episodes and one of samples for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from internnav_hf.camera import CameraSpec
from internnav_hf.data.formats.registry import FolderName, Reader
from internnav_hf.data.formats.vln_ce.names import DatasetName
from internnav_hf.data.index import EpisodeTable
from internnav_hf.data.tasks.common import Task, cameras_in
from internnav_hf.data.tasks.system2_sampling import (
    SamplingRules,
    open_samples,
    shift_episodes,
    subsample,
)

Name = DatasetName | FolderName


@dataclass(frozen=True, eq=False)
class Datasets:
    """`samples` point to `episodes`, whose `dataset` is the number of a name. `image_size` (width,
    height) is that of all images; `cameras` are those of each name.
    """

    episodes: pa.Table
    samples: pa.Table
    image_size: tuple[int, int]
    cameras: list[list[CameraSpec]]


def open_datasets(
    task: Task,
    reader: Reader,
    data_root: Path,
    names: Sequence[Name],
    rules: SamplingRules,
    seed: int,
    max_broken_fraction: float,
    camera: CameraSpec | None = None,
) -> Datasets:
    """Map or build the tables of all names, and take the samples that `%N` keeps."""
    sources = [reader.named(data_root, name) for name in names]
    tables = task.open(sources, reader.cache_dir, max_broken_fraction, camera)
    titles = [str(data_root / name.folder) for name in names]
    key = () if camera is None else (str(camera),)  # derived goals depend on it
    samples = [
        open_samples(table, rules, data_root, title, key)
        for table, title in zip(tables, titles, strict=True)
    ]
    size = _only_image_size(tables, names)
    cameras = [_cameras(table, name, size) for table, name in zip(tables, names, strict=True)]
    return Datasets(*join_datasets(names, tables, samples, seed), size, cameras)


def join_datasets(
    names: Sequence[Name],
    tables: Sequence[EpisodeTable],
    all_samples: Sequence[pa.Table],
    seed: int,
) -> tuple[pa.Table, pa.Table]:
    """Return episodes of all datasets with the dataset's number, and their samples after `%N`,
    which point to them.
    """
    episodes, samples, first_episode = [], [], 0
    for number, (name, table, kept) in enumerate(zip(names, tables, all_samples, strict=True)):
        column = pa.array(np.full(table.episodes.num_rows, number, np.int16))
        episodes.append(table.episodes.append_column("dataset", column))
        if name.percent < 100:
            key = (seed, *str(name).encode())
            kept = kept.take(pa.array(subsample(kept.num_rows, name.percent, key)))
        samples.append(shift_episodes(kept, first_episode) if first_episode else kept)
        first_episode += table.episodes.num_rows
    return pa.concat_tables(episodes, promote_options="default"), pa.concat_tables(samples)


def _only_image_size(tables: Sequence[EpisodeTable], names: Sequence[Name]) -> tuple[int, int]:
    """Return (width, height) of all images of all datasets."""
    examples = {}
    for table, name in zip(tables, names, strict=True):
        sizes = table.episodes.select(["width", "height"]).combine_chunks()
        for row in sizes.group_by(["width", "height"]).aggregate([]).to_pylist():
            examples.setdefault((row["width"], row["height"]), str(name))
    if len(examples) > 1:
        found = ", ".join(f"{w}x{h} in {name}" for (w, h), name in sorted(examples.items()))
        raise ValueError(f"All images must have one size; found {found}")
    return next(iter(examples))


def _cameras(table: EpisodeTable, name: Name, image_size: tuple[int, int]) -> list[CameraSpec]:
    """Return the camera of a name that has one, else those of its episodes."""
    if isinstance(name, FolderName):
        return cameras_in(table.episodes)
    recorded = pc.max(table.episodes["hfov_deg"]).as_py()
    spec = CameraSpec(
        *image_size,
        **({} if recorded is None else {"hfov_deg": recorded}),
        height_m=name.height_cm / 100,
        pitch_deg=float(name.pitch_deg),
        look_down_pitch_deg=float(name.look_down_pitch_deg),
    )
    return [spec]
