"""A folder in LeRobot's v2.1 dialect: parquet and meta files, written completely or not at all."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from internnav_hf.camera import CameraSpec
from internnav_hf.files import atomic_folder

FRAMES_PER_SECOND = 30  # nominal, as published
EPISODES_PER_CHUNK = 1000
MATRIX = pa.list_(pa.list_(pa.float32()))


@contextmanager
def lerobot_folder(
    folder: Path, camera: CameraSpec, info: dict, fps: int = FRAMES_PER_SECOND
) -> Iterator["LeRobotFolder"]:
    """Yields a `LeRobotFolder` to add episodes to; `folder` appears only if the block succeeds."""
    with atomic_folder(folder) as partial:
        lerobot = LeRobotFolder(partial, camera, info, fps)
        yield lerobot
        lerobot.finish()


class LeRobotFolder:
    """Collects episodes in `folder`, which exists; `finish` writes the meta files."""

    def __init__(
        self, folder: Path, camera: CameraSpec, info: dict, fps: int = FRAMES_PER_SECOND
    ) -> None:
        self.folder, self.camera = folder, camera
        self.num_episodes = self.num_frames = 0
        self._info, self._fps = info, fps
        self._meta: dict[str, list[dict]] = {"episodes": [], "tasks": [], "episodes_stats": []}

    @property
    def chunk(self) -> str:
        """Name of the folder for the next episode's files."""
        return f"chunk-{self.num_episodes // EPISODES_PER_CHUNK:03d}"

    def images(self, name: str) -> Path:
        """The folder for the next episode's images called `name`."""
        folder = self.folder / "videos" / self.chunk / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def num_tasks(self) -> int:
        """Number of tasks so far; the next episode's first task has this index."""
        return len(self._meta["tasks"])

    def add(
        self, columns: dict[str, pa.Array], tasks: Sequence[dict[str, Any]], stats: dict
    ) -> None:
        """Add an episode: its own columns (LeRobot's are added), its rows of tasks.jsonl without
        their indices, and its row of episodes_stats.jsonl.
        """
        index, length = self.num_episodes, len(next(iter(columns.values())))
        path = self.folder / "data" / self.chunk / f"episode_{index:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(self._own_columns(length) | columns), path)
        texts = [task["task"] for task in tasks]
        episode = {"episode_index": index, "tasks": texts, "length": length}
        self._meta["episodes"].append(episode)
        self._meta["episodes_stats"].append({"episode_index": index, **stats})
        numbered = enumerate(tasks, self.num_tasks)
        self._meta["tasks"] += [{"task_index": i, **task} for i, task in numbered]
        self.num_episodes += 1
        self.num_frames += length

    def finish(self) -> None:
        """Write the meta files."""
        meta = self.folder / "meta"
        meta.mkdir(exist_ok=True)
        for name, rows in self._meta.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (meta / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        info = {
            "codebase_version": "v2.1",
            "robot_type": "simulated",
            "total_episodes": self.num_episodes,
            "total_frames": self.num_frames,
            "total_tasks": self.num_tasks,
            "total_videos": 0,
            "total_chunks": (self.num_episodes - 1) // EPISODES_PER_CHUNK + 1,
            "chunks_size": EPISODES_PER_CHUNK,
            "fps": self._fps,
            "splits": {"train": f"0:{self.num_episodes}"},
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "camera": self.camera.to_dict(),
            **self._info,
        }
        (meta / "info.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")

    def _own_columns(self, length: int) -> dict[str, pa.Array]:
        frames = np.arange(length)
        return {
            "timestamp": pa.array((frames / self._fps).astype(np.float32)),
            "frame_index": pa.array(frames),
            "episode_index": pa.array(np.full(length, self.num_episodes)),
            "index": pa.array(frames + self.num_frames),
            "task_index": pa.array(np.full(length, self.num_tasks)),
        }
