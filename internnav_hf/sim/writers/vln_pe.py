"""Writes episodes in InternData-N1's `vln_pe` layout (v0.5), which the instruction-following models
are trained on, one folder for each scene or for each episode.

    SCENE/meta/{info.json, episodes.jsonl, tasks.jsonl, episodes_stats.jsonl}
    SCENE/data/chunk-000/episode_000000.parquet
    SCENE/videos/chunk-000/observation.images.rgb/episode_000000.npy      uint8 (T, H, W, 3)
    SCENE/videos/chunk-000/observation.images.depth/episode_000000.npy    float32 (T, H, W)

Depth is in tens of metres, 0 without a measurement. `observation.action` is the expert's action AT
the frame; each instruction is a line of tasks.jsonl, and episodes_stats.jsonl holds the first and
the last line of an episode. Orientations are (w, x, y, z) of axes x forward, y left, z up.

Differs from the published folders:

* If the executed actions differ from the expert's, three columns are added, because the later
  frames then do not show the expert's route: `observation.previous_action`,
  `observation.expert_actions`, the expert's next eight actions from each frame, and
  `observation.expert_steps`, the number of steps it still needs.
* `instruction_tokens` are left out: they are indices of a vocabulary without these words.
* `meta/info.json` describes these episodes.
* On request images are files (JPEG, and 16-bit PNG in millimetres): a seventh of the size at
  128x96, and slower to read.

Legend: T frames of an episode.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import FORWARD_STEP_M, camera_pose
from internnav_hf.sim.expert import MAX_STEPS, Demonstration, Expert
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.writers.lerobot_folder import LeRobotFolder, lerobot_folder
from internnav_hf.sim.writers.vln_ce import JPEG_QUALITY, LARGEST_DEPTH_M

FRAMES_PER_SECOND = 6  # nominal, as published
SIMULATOR_STEPS = 50  # physics steps for each action, as published
MM_PER_M = 1000
PLANNED_STEPS = 8  # RDP's horizon
VECTOR = pa.list_(pa.float64())


@dataclass(frozen=True, eq=False)
class RecordedEpisode:
    """`poses` (T, 3) as (x, y, yaw); `rgb` (T, H, W, 3) uint8; `depth` (T, H, W) metres, 0 unknown.

    `actions` (T,) are the expert's at each frame, `executed` (T,) the actions taken instead (None:
    the same), `plans` the expert's actions from each frame to its STOP, if others were executed;
    `progress` (T,) is the share of the distance that is done, see `progress_of`.
    """

    instructions: tuple[str, ...]
    poses: np.ndarray
    rgb: np.ndarray
    depth: np.ndarray
    actions: np.ndarray
    progress: np.ndarray
    executed: np.ndarray | None = None
    plans: Sequence[list[int]] | None = None
    finish_status: str = "success"
    fail_reason: str = ""


class RecordedEpisodeWriter:
    """Adds episodes to a folder; `vln_pe_folder` makes one."""

    def __init__(self, lerobot: LeRobotFolder, image_files: bool = False) -> None:
        self._lerobot, self._image_files = lerobot, image_files

    def add(self, episode: RecordedEpisode) -> None:
        """Writes one episode."""
        self._write_images(episode)
        ends = {"finish_status": episode.finish_status, "fail_reason": episode.fail_reason}
        tasks = [{"task": text, **ends} for text in episode.instructions]
        first = self._lerobot.num_tasks
        numbers = {"min": first, "max": first + len(tasks) - 1, "count": len(episode.poses)}
        self._lerobot.add(_columns(episode, self._lerobot.camera), tasks, {"task_index": numbers})

    def _write_images(self, episode: RecordedEpisode) -> None:
        depth = np.clip(episode.depth, 0, LARGEST_DEPTH_M)
        if not self._image_files:
            np.save(f"{self._stem('rgb')}.npy", episode.rgb)
            np.save(f"{self._stem('depth')}.npy", (depth / LARGEST_DEPTH_M).astype(np.float32))
            return
        for frame, (rgb, metres) in enumerate(zip(episode.rgb, depth, strict=True)):
            image = Image.fromarray((metres * MM_PER_M).astype(np.uint16))
            image.save(f"{self._stem('depth')}_{frame}.png", compress_level=1)
            Image.fromarray(rgb).save(f"{self._stem('rgb')}_{frame}.jpg", quality=JPEG_QUALITY)

    def _stem(self, kind: str) -> Path:
        lerobot = self._lerobot
        return lerobot.images(f"observation.images.{kind}") / f"episode_{lerobot.num_episodes:06d}"


@contextmanager
def vln_pe_folder(
    folder: Path, camera: CameraSpec, info: dict, image_files: bool = False
) -> Iterator[RecordedEpisodeWriter]:
    """Yields a writer to add episodes with; `folder` appears only if the block succeeds."""
    with lerobot_folder(folder, camera, info, FRAMES_PER_SECOND) as lerobot:
        yield RecordedEpisodeWriter(lerobot, image_files)


def record(
    expert: Expert, demonstration: Demonstration, renderer: Renderer, camera: CameraSpec
) -> RecordedEpisode:
    """The expert's demonstration with images."""
    explored, episode = demonstration.exploring.any(), expert.episode
    plans = _plans(expert, demonstration) if explored else None
    goal_xy = np.array(episode.goal_xy)
    left = distances_to(expert.field.space, goal_xy, demonstration.poses[:, :2])
    at = (camera.height_m, np.radians(camera.pitch_deg))
    poses = [camera_pose(x, y, yaw, *at) for x, y, yaw in demonstration.poses]
    views = [renderer.render(pose, camera) for pose in poses]
    return RecordedEpisode(
        episode.instructions,
        demonstration.poses,
        np.stack([view.rgb for view in views]),
        np.stack([view.depth for view in views]),
        actions=demonstration.expert_actions,
        progress=progress_of(left),
        executed=demonstration.actions if explored else None,
        plans=plans,
    )


def _plans(expert: Expert, demonstration: Demonstration) -> list[list[int]]:
    """The expert's actions from each frame to its STOP.

    Where its action was done, they are that one and those of the next frame.
    """
    done, best = demonstration.actions.tolist(), demonstration.expert_actions.tolist()
    plans: list[list[int]] = []
    for frame in reversed(range(len(done))):
        if plans and done[frame] == best[frame]:
            plans.append([best[frame], *plans[-1]][:MAX_STEPS])
        else:
            x, y, yaw = demonstration.poses[frame]
            plans.append(expert.plan(np.array([x, y]), yaw))
    return plans[::-1]


def progress_of(distances: np.ndarray) -> np.ndarray:
    """(d_0 - d_t) / d_0 for the remaining distances (T,) in metres, as in VLN-CE: 0 at the start, 1
    at the goal, negative farther away. A d_0 shorter than a step counts as one step.
    """
    distances = np.asarray(distances, np.float64)
    return (distances[0] - distances) / max(distances[0], FORWARD_STEP_M)


def distances_to(space: NavigableSpace, goal_xy: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(T,) metres to the goal from points (T, 2): straight if that is free, else on the grid."""
    goal_xy = np.asarray(goal_xy, np.float64)
    straight = np.linalg.norm(xy - goal_xy, axis=-1)
    around = space.distance_field(goal_xy)(xy)
    return np.where(space.straight_line_is_free(xy, goal_xy), straight, around)


def _columns(episode: RecordedEpisode, camera: CameraSpec) -> dict[str, pa.Array]:
    """All columns but LeRobot's own, in the published order."""
    x, y, yaw = np.asarray(episode.poses, np.float64).T
    floor = np.stack([x, y, np.zeros_like(x)], axis=1)
    columns = {
        "camera_position": _vectors(floor + np.array([0, 0, camera.height_m])),
        "camera_orientation": _vectors(quaternions(yaw, np.radians(camera.pitch_deg))),
        "camera_yaw": pa.array(yaw),
        "robot_position": _vectors(floor),
        "robot_orientation": _vectors(quaternions(yaw, 0.0)),
        "robot_yaw": pa.array(yaw),
        "progress": pa.array(np.asarray(episode.progress, np.float64)),
        "step": pa.array(SIMULATOR_STEPS * np.arange(len(x))),
        "action": pa.array(np.asarray(episode.actions, np.int64)),
    }
    if episode.executed is not None:
        led = np.concatenate([[-1], episode.executed[:-1]]).astype(np.int64)
        columns["previous_action"] = pa.array(led)
    if episode.plans is not None:
        stops = [0] * PLANNED_STEPS
        planned = [(plan + stops)[:PLANNED_STEPS] for plan in episode.plans]
        columns["expert_actions"] = pa.array(planned, pa.list_(pa.int64()))
        columns["expert_steps"] = pa.array([len(plan) for plan in episode.plans])
    return {f"observation.{name}": column for name, column in columns.items()}


def quaternions(yaw: np.ndarray, pitch: float) -> np.ndarray:
    """(T, 4) as (w, x, y, z): first a rotation down by the pitch, then left by the yaw (T,)."""
    sin_yaw, cos_yaw = np.sin(yaw / 2), np.cos(yaw / 2)
    sin, cos = np.sin(pitch / 2), np.cos(pitch / 2)
    return np.stack([cos_yaw * cos, -sin_yaw * sin, cos_yaw * sin, sin_yaw * cos], axis=1)


def _vectors(values: np.ndarray) -> pa.Array:
    return pa.array(values.tolist(), VECTOR)
