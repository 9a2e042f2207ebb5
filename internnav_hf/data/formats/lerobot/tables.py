"""Episodes as LeRobot tables: columns, embedded images, statistics.

Columns are those of the published VLN-CE converter: `observation.images.rgb`, `action` (1,), 30
frames a second, and a task that is JSON, {"instruction": text}. Images are embedded as they are,
never encoded again. Differs from it: all instructions are tasks of the episode (a frame's
`task_index` is the first's); statistics of images are per channel, as LeRobot's own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from internnav_hf.data.formats.streamvln import RecordedTrajectory
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.images import open_image

FRAMES_PER_SECOND = 30
RGB = "observation.images.rgb"
NUMBERS = {
    "action": "int64",
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
Statistics = dict[str, dict[str, Any]]
"""min, max, mean, std and count by feature, as nested lists."""

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_MAX_IMAGES = 100  # used for statistics
_PIXEL_STRIDE = 4  # every fourth row and column


@dataclass(frozen=True)
class ExportEpisode:
    """An episode and its place in the dataset: indices of episode, first frame and tasks."""

    walk: RecordedTrajectory
    episode_index: int
    first_index: int
    task_indices: tuple[int, ...]

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.walk.frames)

    @property
    def tasks(self) -> list[str]:
        """Return one task for each different instruction."""
        return tasks_of(self.walk)

    def numbers(self) -> dict[str, np.ndarray]:
        """Return the columns that are not images."""
        frames = np.arange(self.length)
        columns = {
            "action": np.array(self.walk.actions),
            "timestamp": frames / FRAMES_PER_SECOND,
            "frame_index": frames,
            "episode_index": np.full(self.length, self.episode_index),
            "index": frames + self.first_index,
            "task_index": np.full(self.length, self.task_indices[0]),
        }
        return {name: values.astype(NUMBERS[name]) for name, values in columns.items()}

    def table(self) -> pa.Table:
        """Return the schema of all columns; its metadata mark the image column for `datasets`."""
        images = [
            {"bytes": path.read_bytes(), "path": f"frame-{frame:06d}{path.suffix}"}
            for frame, path in enumerate(self.walk.frames)
        ]
        numbers = {name: pa.array(values) for name, values in self.numbers().items()}
        kinds = {name: {"dtype": kind, "_type": "Value"} for name, kind in NUMBERS.items()}
        features = {"info": {"features": {RGB: {"_type": "Image"}, **kinds}}}
        table = pa.table({RGB: pa.array(images, _IMAGE), **numbers})
        return table.replace_schema_metadata({"huggingface": json.dumps(features)})


def number_episodes(
    walks: Sequence[RecordedTrajectory], task_index: Mapping[str, int]
) -> Iterator[ExportEpisode]:
    """Number episodes and their frames consecutively."""
    first = 0
    for index, walk in enumerate(walks):
        numbers = tuple(task_index[task] for task in tasks_of(walk))
        yield ExportEpisode(walk, index, first, numbers)
        first += len(walk.frames)


def tasks_of(walk: RecordedTrajectory) -> list[str]:
    """Return a task in the published form."""
    texts = dict.fromkeys(walk.instructions)
    return [json.dumps({"instruction": text}, ensure_ascii=False) for text in texts]


def features(size: tuple[int, int]) -> dict[str, dict]:
    """Return `features` of meta/info.json, for images of (width, height)."""
    width, height = size
    names = ["height", "width", "channel"]
    image = {"dtype": "image", "shape": [height, width, 3], "names": names}
    numbers = {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in NUMBERS.items()}
    return {RGB: image, **numbers}


def image_statistics(walk: RecordedTrajectory, size: tuple[int, int]) -> dict[str, Any]:
    """Return statistics per channel of values in [0, 1], from up to a hundred images. ValueError if
    any image of the episode cannot be read, or has another size.
    """
    chosen = set(np.linspace(0, len(walk.frames) - 1, _MAX_IMAGES).astype(int).tolist())
    pixels = []
    for frame, path in enumerate(walk.frames):
        image = open_image(path)
        if image.size != size:
            raise broken(path, "size", "{}x{}".format(*image.size), "{}x{}".format(*size))
        if frame in chosen:
            strided = np.asarray(image)[::_PIXEL_STRIDE, ::_PIXEL_STRIDE]
            pixels.append(strided.reshape(-1, 3))
    values = np.concatenate(pixels).astype(np.float32) / 255
    return _statistics(values, len(pixels), (3, 1, 1))


def number_statistics(episode: ExportEpisode) -> Statistics:
    """Return statistics of each column that is not an image."""
    columns = episode.numbers()
    return {name: _statistics(v[:, None], len(v), (1,)) for name, v in columns.items()}


def _statistics(values: np.ndarray, count: int, shape: tuple[int, ...]) -> dict[str, Any]:
    kinds = {"min": np.min, "max": np.max, "mean": np.mean, "std": np.std}
    exact = values if values.dtype.kind == "i" else values.astype(np.float64)
    numbers = {name: kind(exact, axis=0).reshape(shape).tolist() for name, kind in kinds.items()}
    return numbers | {"count": [count]}


def pooled_statistics(episodes: Sequence[Statistics]) -> Statistics:
    """Return statistics of all frames: means weighted by their counts, and the deviation from the
    mean of all.
    """
    return {name: _pooled([stats[name] for stats in episodes]) for name in episodes[0]}


def _pooled(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("min", "max", "mean", "std", "count")
    low, high, mean, std, count = (np.array([part[name] for part in parts]) for name in names)
    weight = count.reshape(len(parts), *[1] * (mean.ndim - 1)) / count.sum()
    whole = (weight * mean).sum(axis=0)
    variance = (weight * (std**2 + (mean - whole) ** 2)).sum(axis=0)
    pooled = {"min": low.min(axis=0), "max": high.max(axis=0), "mean": whole}
    pooled |= {"std": np.sqrt(variance), "count": count.sum(axis=0)}
    return {name: values.tolist() for name, values in pooled.items()}
