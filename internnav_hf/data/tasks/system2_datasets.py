"""System2's datasets: one table of episodes and one of samples for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from internnav_hf.camera import CameraSpec
from internnav_hf.data.formats.registry import FormatName, named_source
from internnav_hf.data.formats.vln_ce.names import DatasetName
from internnav_hf.data.index import EpisodeTable, check_columns, open_episodes
from internnav_hf.data.rows import EpisodeRow, camera_of
from internnav_hf.data.tasks.system2_sampling import (
    SamplingRules,
    open_samples,
    shift_episodes,
    subsample,
)

NEEDED = ("instructions", "actions", "goal_frames", "goals", "rgb_file", "width", "focal", "poses")
Name = DatasetName | FormatName


@dataclass(frozen=True, eq=False)
class Datasets:
    """`samples` point to `episodes`, whose `dataset` is the number of a name. `image_size` (width,
    height) is that of all images; `cameras` are in the order of the names.
    """

    episodes: pa.Table
    samples: pa.Table
    image_size: tuple[int, int]
    cameras: list[CameraSpec]


def open_datasets(
    data_root: Path,
    names: Sequence[Name],
    rules: SamplingRules,
    seed: int,
    cache_dir: Path,
    needs_depth: bool,
    max_broken_fraction: float,
) -> Datasets:
    """Map or build the tables of all names, and take the samples that `%N` keeps."""
    needed = [*NEEDED, *["depth_file"] * needs_depth]
    tables, samples = [], []
    for name in names:
        title = str(data_root / name.folder)
        source = named_source(data_root, name, needs_depth)
        table = open_episodes(source, cache_dir, max_broken_fraction)
        check_columns(table.episodes, needed, title, "System2")
        tables.append(table)
        samples.append(open_samples(table, rules, title))
    size = _only_image_size(tables, names)
    cameras = [_camera(table, name, size) for table, name in zip(tables, names, strict=True)]
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
        rows = table.episodes.append_column("dataset", column)
        if "scene" not in rows.column_names:
            rows = rows.append_column("scene", rows["unit"])
        episodes.append(rows)
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


def _camera(table: EpisodeTable, name: Name, image_size: tuple[int, int]) -> CameraSpec:
    if isinstance(name, FormatName):
        return camera_of(EpisodeRow(table.episodes, 0, Path()))
    width, height = image_size
    recorded = pc.max(table.episodes["hfov_deg"]).as_py()
    spec = {} if recorded is None else {"hfov_deg": recorded}
    return CameraSpec(
        width=width,
        height=height,
        height_m=name.height_cm / 100,
        pitch_deg=float(name.pitch_deg),
        look_down_pitch_deg=float(name.look_down_pitch_deg),
        **spec,
    )
