"""Writes small `vln_ce` folders: the golden synthetic scene, and scenes to break."""

import functools
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP, camera_pose

GOLDEN = Path(__file__).parents[1] / "golden" / "sample_lists.json"
LEVEL, DOWN = "125cm_0deg", "125cm_30deg"


def logged(open_image, opened: list):
    """In the place of `Image.open`: it adds the path of each file to `opened`."""

    def open_and_log(stream, **options):
        opened.append(Path(stream.name))
        return open_image(stream, **options)

    return open_and_log


def golden() -> dict:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def golden_image(frame: int, look_down: bool, size: tuple[int, int]) -> Image.Image:
    """The golden's rule: ramps in x and y, and a blue pattern that depends on frame and camera."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    red, green = x * 255 // (width - 1), y * 255 // (height - 1)
    blue = (x + y + 20 * frame + 50 * look_down) // 5 % 256
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def write_scene(
    scene: Path, episodes: list[dict], size=(640, 480), quality=90, images=True, info=None
) -> Path:
    """`episodes` in the form of the golden: meta, actions, relative_goal_frame_id, goal."""
    lines = [json.dumps(episode["meta"]) for episode in episodes]
    (scene / "meta").mkdir(parents=True, exist_ok=True)
    (scene / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if info is not None:
        (scene / "meta" / "info.json").write_text(json.dumps(info), encoding="utf-8")
    for episode in episodes:
        write_parquet(scene, episode)
        if images:
            write_images(scene, episode, size, quality)
    return scene


def parquet_of(scene: Path, episode_index: int) -> Path:
    chunk = f"chunk-{episode_index // 1000:03d}"
    return scene / "data" / chunk / f"episode_{episode_index:06d}.parquet"


def image_of(scene: Path, episode_index: int, frame: int, setting: str) -> Path:
    chunk = f"chunk-{episode_index // 1000:03d}"
    folder = scene / "videos" / chunk / f"observation.images.rgb.{setting}"
    return folder / f"episode_{episode_index:06d}_{frame}.jpg"


def write_parquet(scene: Path, episode: dict) -> None:
    length = len(episode["actions"])
    columns = {"action": pa.array(episode["actions"], pa.int32())}
    for setting in (LEVEL, DOWN):
        down = setting == DOWN
        poses = poses_of(episode["actions"], pitch_deg=30 if down else 0)
        none = [[-1, -1]] * length
        relative = episode["relative_goal_frame_id"] if down else [-1] * length
        goal = episode["goal"] if down else none
        columns[f"pose.{setting}"] = pa.array(poses.tolist(), pa.list_(pa.list_(pa.float32())))
        columns[f"goal.{setting}"] = pa.array(goal, pa.list_(pa.int32()))
        columns[f"relative_goal_frame_id.{setting}"] = pa.array(relative, pa.int32())
    columns["timestamp"] = pa.array(np.arange(length) / 30, pa.float32())
    path = parquet_of(scene, episode["meta"]["episode_index"])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def poses_of(actions: list[int], pitch_deg: float) -> np.ndarray:
    """(T, 4, 4) of a camera that is carried along; the actions lead to the frames."""
    x, y, yaw, poses = 0.0, 0.0, 0.0, []
    for action in actions:
        yaw += {2: TURN_STEP, 3: -TURN_STEP}.get(action, 0.0)
        if action == 1:
            x, y = x + FORWARD_STEP_M * np.cos(yaw), y + FORWARD_STEP_M * np.sin(yaw)
        poses.append(camera_pose(x, y, yaw, 1.25, np.radians(pitch_deg)))
    return np.array(poses, np.float32)


def write_depth(scene: Path, episode: dict, size: tuple[int, int]) -> None:
    """The golden's rule for the look-down view, in millimetres."""
    for frame in range(len(episode["actions"])):
        path = depth_of(scene, episode["meta"]["episode_index"], frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_depth(frame, tuple(size)))


@functools.cache
def _depth(frame: int, size: tuple[int, int]) -> bytes:
    y, x = np.mgrid[: size[1], : size[0]]
    stream = io.BytesIO()
    Image.fromarray(((5 * x + 9 * y + 100 * frame) % 8000).astype(np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def depth_of(scene: Path, episode_index: int, frame: int, setting: str = DOWN) -> Path:
    path = image_of(scene, episode_index, frame, setting)
    folder = path.parent.with_name(f"observation.images.depth.{setting}")
    return folder / path.with_suffix(".png").name


def write_images(scene: Path, episode: dict, size, quality) -> None:
    for setting in (LEVEL, DOWN):
        for frame in range(len(episode["actions"])):
            path = image_of(scene, episode["meta"]["episode_index"], frame, setting)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_jpeg(frame, setting == DOWN, tuple(size), quality))


@functools.cache
def _jpeg(frame: int, look_down: bool, size: tuple[int, int], quality: int) -> bytes:
    """Most tests write the same frames."""
    stream = io.BytesIO()
    golden_image(frame, look_down, size).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def straight_episode(episode_index: int, length: int = 12, instruction="Go on. ") -> dict:
    """Forward all the way with a waypoint at frames 0 and 4, then a turn at frame 8."""
    actions = [-1] + [1] * (length - 1)
    actions[9] = 2
    relative, goal = [-1] * length, [[-1, -1] for _ in range(length)]
    for frame in (0, 4):
        relative[frame], goal[frame] = 4, [10 + frame, 20 + episode_index]
    meta = {"episode_index": episode_index, "tasks": [instruction], "length": length}
    return {"meta": meta, "actions": actions, "relative_goal_frame_id": relative, "goal": goal}
