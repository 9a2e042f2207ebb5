"""Writes episodes in InternData-N1's `vln_ce` layout (LeRobot v2.1 dialect), a folder for each
scene.

    SCENE/meta/{info.json, episodes.jsonl, tasks.jsonl, episodes_stats.jsonl}
    SCENE/data/chunk-000/episode_000000.parquet
    SCENE/videos/chunk-000/observation.images.{rgb,depth}.125cm_30deg/episode_000000_0.{jpg,png}

A scene is written to a hidden folder and renamed when it is complete: a killed run leaves no half
scene. What the published layout does not have: `observation.images.landmark.*`, masks of the named
object, on request.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import camera_pose

from .episodes import NavigationEpisode
from .expert import NO_GOAL, Walk, pixel_goals
from .render import Renderer, View

FRAMES_PER_SECOND = 30  # nominal, as published
EPISODES_PER_CHUNK = 1000
INSTRUCTION_SEPARATOR = "<INSTRUCTION_SEP>"
LARGEST_DEPTH_M = 10.0
LANDMARK_SHRINK = 8  # a landmark mask is this many times smaller than the image
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Recording:
    """What is written for each episode."""

    camera: CameraSpec
    depth: bool = True
    landmarks: bool = False

    @property
    def pitches(self) -> dict[str, float]:
        """Column and folder suffix, 125cm_30deg, -> pitch in degrees; one if both are equal."""
        camera = self.camera
        pairs = [(False, camera.pitch_deg), (True, camera.look_down_pitch_deg)]
        return {camera.pitch_setting(look_down): pitch for look_down, pitch in pairs}


class SceneWriter:
    """Writes the episodes of one scene; use as a context, which completes or removes the folder."""

    def __init__(self, folder: Path, renderer: Renderer, recording: Recording, info: dict) -> None:
        self._folder, self._renderer, self._recording = folder, renderer, recording
        self._partial = folder.with_name(f".{folder.name}.partial")
        self._info = info
        self._episodes: list[dict] = []
        self._stats: list[dict] = []
        self._num_frames = 0

    def __enter__(self) -> "SceneWriter":
        shutil.rmtree(self._partial, ignore_errors=True)
        (self._partial / "meta").mkdir(parents=True)
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self._write_meta()
            os.replace(self._partial, self._folder)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)

    def add(self, episode: NavigationEpisode, walk: Walk) -> None:
        """Render and write one episode."""
        index = len(self._episodes)
        chunk = f"chunk-{index // EPISODES_PER_CHUNK:03d}"
        columns = self._base_columns(index, walk)
        for setting, pitch in self._recording.pitches.items():
            poses = [self._pose(pose, pitch) for pose in walk.poses]
            views = [self._renderer.render(pose, self._recording.camera) for pose in poses]
            self._write_images(chunk, index, setting, views, episode)
            columns |= self._setting_columns(setting, pitch, poses, views, walk)
        path = self._partial / "data" / chunk / f"episode_{index:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        task = INSTRUCTION_SEPARATOR.join(episode.instructions)
        length = len(walk.actions)
        self._episodes.append({"episode_index": index, "tasks": [task], "length": length})
        self._stats.append({"episode_index": index, "stats": _statistics(columns["action"])})
        self._num_frames += length

    def _pose(self, pose: np.ndarray, pitch_deg: float) -> np.ndarray:
        x, y, yaw = pose
        return camera_pose(x, y, yaw, self._recording.camera.height_m, np.radians(pitch_deg))

    def _base_columns(self, index: int, walk: Walk) -> dict[str, pa.Array]:
        """LeRobot's own columns, and `action`: the one that LED TO each frame, -1 first."""
        length = len(walk.actions)
        frames = np.arange(length)
        return {
            "timestamp": pa.array((frames / FRAMES_PER_SECOND).astype(np.float32)),
            "frame_index": pa.array(frames),
            "episode_index": pa.array(np.full(length, index)),
            "index": pa.array(frames + self._num_frames),
            "task_index": pa.array(np.full(length, index)),
            "action": pa.array(np.concatenate([[-1], walk.actions[:-1]]).astype(np.int32)),
        }

    def _setting_columns(
        self, setting: str, pitch: float, poses: list[np.ndarray], views: list[View], walk: Walk
    ) -> dict[str, pa.Array]:
        """Poses; goals in the look-down setting, none in the other, as published."""
        camera = self._recording.camera
        if pitch == camera.look_down_pitch_deg:
            goals, ahead = pixel_goals(walk, views, camera, pitch)
        else:
            goals, ahead = np.full((len(views), 2), NO_GOAL), np.full(len(views), NO_GOAL)
        matrices = [pose.astype(np.float32).tolist() for pose in poses]
        return {
            f"pose.{setting}": pa.array(matrices, pa.list_(pa.list_(pa.float32()))),
            f"goal.{setting}": pa.array(goals.tolist(), pa.list_(pa.int32())),
            f"relative_goal_frame_id.{setting}": pa.array(ahead.astype(np.int32)),
        }

    def _write_images(
        self, chunk: str, index: int, setting: str, views: list[View], episode: NavigationEpisode
    ) -> None:
        kinds = {"rgb": True, "depth": self._recording.depth, "landmark": self._recording.landmarks}
        goal = episode.goal_object
        for kind in (kind for kind, wanted in kinds.items() if wanted):
            folder = self._partial / "videos" / chunk / f"observation.images.{kind}.{setting}"
            folder.mkdir(parents=True, exist_ok=True)
            for frame, view in enumerate(views):
                stem = folder / f"episode_{index:06d}_{frame}"
                if kind == "rgb":
                    Image.fromarray(view.rgb).save(f"{stem}.jpg", quality=JPEG_QUALITY)
                elif kind == "depth":
                    depth_mm = (
                        np.clip(view.depth, 0, LARGEST_DEPTH_M) * self._recording.camera.depth_scale
                    )
                    Image.fromarray(depth_mm.astype(np.uint16)).save(f"{stem}.png")
                else:
                    _landmark(view, 0 if goal is None else goal.instance_id).save(f"{stem}.png")

    def _write_meta(self) -> None:
        meta = self._partial / "meta"
        tasks = [
            {"task_index": i, "task": episode["tasks"][0]}
            for i, episode in enumerate(self._episodes)
        ]
        for name, rows in (
            ("episodes", self._episodes),
            ("tasks", tasks),
            ("episodes_stats", self._stats),
        ):
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (meta / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        info = {
            "codebase_version": "v2.1",
            "robot_type": "simulated",
            "total_episodes": len(self._episodes),
            "total_frames": self._num_frames,
            "total_tasks": len(tasks),
            "total_videos": 0,
            "total_chunks": (len(self._episodes) - 1) // EPISODES_PER_CHUNK + 1,
            "chunks_size": EPISODES_PER_CHUNK,
            "fps": FRAMES_PER_SECOND,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "camera": self._recording.camera.to_dict(),
            **self._info,
        }
        (meta / "info.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def _landmark(view: View, instance_id: int) -> Image.Image:
    """Share (0 to 255) of each area that shows the object; all 0 for no object (id 0)."""
    shows = (view.instances == instance_id) & (instance_id > 0)
    height, width = view.instances.shape
    size = (max(1, width // LANDMARK_SHRINK), max(1, height // LANDMARK_SHRINK))
    return Image.fromarray((shows * 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)


def _statistics(actions: pa.Array) -> dict:
    values = actions.to_numpy()
    numbers = {"min": values.min(), "max": values.max(), "mean": values.mean(), "std": values.std()}
    return {"action": {name: [float(v)] for name, v in numbers.items()} | {"count": [len(values)]}}
