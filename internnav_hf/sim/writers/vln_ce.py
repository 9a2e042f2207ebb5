"""Writes episodes in InternData-N1's `vln_ce` layout (LeRobot v2.1 dialect), one folder for each
scene.

    SCENE/meta/{info.json, episodes.jsonl, tasks.jsonl, episodes_stats.jsonl}
    SCENE/data/chunk-000/episode_000000.parquet
    SCENE/videos/chunk-000/observation.images.{rgb,depth}.125cm_30deg/episode_000000_0.{jpg,png}

A scene is written to a hidden folder and renamed when it is complete: a killed run leaves no
partial scene. Not in the published layout: `observation.images.landmark.*`, masks of the named
object, written on request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.data.pixel_goals import NO_GOAL, pixel_goals
from internnav_hf.data.rows import View, camera_columns
from internnav_hf.geometry import camera_pose
from internnav_hf.sim.episodes import NavigationEpisode
from internnav_hf.sim.expert import Demonstration
from internnav_hf.sim.render import Renderer, Rendering
from internnav_hf.sim.writers.lerobot_folder import MATRIX, LeRobotFolder, lerobot_folder

INSTRUCTION_SEPARATOR = "<INSTRUCTION_SEP>"
LARGEST_DEPTH_M = 10.0
LANDMARK_SHRINK = 8  # a landmark mask is this many times smaller than the image
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Recording:
    """The camera and the images that are written for each episode."""

    camera: CameraSpec
    depth: bool = True
    landmarks: bool = False

    @property
    def pitches(self) -> dict[str, float]:
        """Suffix of columns and folders (125cm_30deg) -> pitch, degrees; one if both are equal."""
        camera = self.camera
        pairs = [(False, camera.pitch_deg), (True, camera.look_down_pitch_deg)]
        return {camera.pitch_setting(look_down): pitch for look_down, pitch in pairs}


@contextmanager
def vln_ce_folder(
    folder: Path, renderer: Renderer, recording: Recording, info: dict
) -> Iterator["SceneWriter"]:
    """Yields a writer to add episodes with; `folder` appears only if the block succeeds."""
    with lerobot_folder(folder, recording.camera, info) as lerobot:
        yield SceneWriter(lerobot, renderer, recording)


@dataclass
class SceneWriter:
    """Adds episodes of one scene to a folder; `vln_ce_folder` makes one."""

    lerobot: LeRobotFolder
    renderer: Renderer
    recording: Recording

    def add(self, episode: NavigationEpisode, demonstration: Demonstration) -> None:
        """Render and write one episode; `action` is the one that LED TO each frame, -1 first."""
        actions = np.concatenate([[-1], demonstration.actions[:-1]]).astype(np.int32)
        columns = {"action": pa.array(actions)}
        for setting, pitch in self.recording.pitches.items():
            camera, at = self.recording.camera, (self.recording.camera.height_m, np.radians(pitch))
            poses = [camera_pose(x, y, yaw, *at) for x, y, yaw in demonstration.poses]
            views = [self.renderer.render(pose, camera) for pose in poses]
            self._write_images(setting, views, episode)
            goals, ahead = np.full((len(views), 2), NO_GOAL), np.full(len(views), NO_GOAL)
            if pitch == camera.look_down_pitch_deg:  # the other view has none, as published
                goals, ahead = pixel_goals(
                    demonstration.poses,
                    demonstration.exploring,
                    lambda frame, views=views: views[frame].depth,
                    View(**camera_columns(camera, pitch)),
                    (camera.width, camera.height),
                )
            matrices = [pose.astype(np.float32).tolist() for pose in poses]
            columns |= {
                f"pose.{setting}": pa.array(matrices, MATRIX),
                f"goal.{setting}": pa.array(goals.tolist(), pa.list_(pa.int32())),
                f"relative_goal_frame_id.{setting}": pa.array(ahead.astype(np.int32)),
            }
        task = INSTRUCTION_SEPARATOR.join(episode.instructions)
        self.lerobot.add(columns, [{"task": task}], {"stats": _statistics(actions)})

    def _write_images(
        self, setting: str, views: list[Rendering], episode: NavigationEpisode
    ) -> None:
        kinds = {"rgb": True, "depth": self.recording.depth, "landmark": self.recording.landmarks}
        goal = episode.goal_object
        for kind in (kind for kind, wanted in kinds.items() if wanted):
            folder = self.lerobot.images(f"observation.images.{kind}.{setting}")
            for frame, view in enumerate(views):
                stem = folder / f"episode_{self.lerobot.num_episodes:06d}_{frame}"
                if kind == "rgb":
                    Image.fromarray(view.rgb).save(f"{stem}.jpg", quality=JPEG_QUALITY)
                elif kind == "depth":
                    scale = self.recording.camera.depth_scale
                    units = np.clip(view.depth, 0, LARGEST_DEPTH_M) * scale
                    Image.fromarray(units.astype(np.uint16)).save(f"{stem}.png")
                else:
                    _landmark(view, 0 if goal is None else goal.instance_id).save(f"{stem}.png")


def _landmark(view: Rendering, instance_id: int) -> Image.Image:
    """Share (0 to 255) of each area that the object covers; all 0 without an object (id 0)."""
    shows = (view.instances == instance_id) & (instance_id > 0)
    height, width = view.instances.shape
    size = (max(1, width // LANDMARK_SHRINK), max(1, height // LANDMARK_SHRINK))
    return Image.fromarray((shows * 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)


def _statistics(actions: np.ndarray) -> dict:
    kinds = {"min": np.min, "max": np.max, "mean": np.mean, "std": np.std}
    numbers = {name: [float(function(actions))] for name, function in kinds.items()}
    return {"action": numbers | {"count": [len(actions)]}}
