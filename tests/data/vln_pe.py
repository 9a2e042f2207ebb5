"""Writes small `vln_pe` folders: a walk of forward steps and turns, in both layouts; reads them."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from internnav_hf.data.formats.vln_pe.reader import (
    WholeWalk,
    find_units,
    read_records,
    read_walk,
)
from internnav_hf.geometry import FORWARD_STEP_M, TURN_STEP

SIZE = (16, 12)  # columns, rows
WORDS = ("<pad>", "<unk>", "walk", "past", "the", "red", "chair", "then", "stop", "turn", "left")
INSTRUCTIONS = ("Walk past the chair, then stop. ", "Turn left then walk", "Stop at the red chair?")
RGB, DEPTH = "observation.images.rgb", "observation.images.depth"


def some_actions(length: int = 12) -> list[int]:
    """Forward, every fourth a turn, the last a stop."""
    return [0 if i == length - 1 else (2 if i % 4 == 2 else 1) for i in range(length)]


def poses_of(actions: list[int]) -> np.ndarray:
    """(T, 3) x, y, yaw where each action is taken."""
    x, y, yaw, poses = 1.0, -2.0, 3.0, []
    for action in actions:
        poses.append((x, y, yaw))
        yaw += {2: TURN_STEP, 3: -TURN_STEP}.get(action, 0.0)
        if action == 1:
            x, y = x + FORWARD_STEP_M * np.cos(yaw), y + FORWARD_STEP_M * np.sin(yaw)
    return np.array(poses)


def tokens_of(text: str, words=WORDS) -> list[int]:
    """(200,) ids by the published rule, padded with 0."""
    plain = text.lower().replace(",", "").replace("?", "").replace(".", " ").split()
    ids = [words.index(word) if word in words else 1 for word in plain]
    return ids + [0] * (200 - len(ids))


def columns_of(actions: list[int]) -> dict[str, np.ndarray]:
    """The published columns of a walk; LeRobot's own are added when it is written."""
    poses, length = poses_of(actions), len(actions)
    quaternion = np.stack(
        [np.cos(poses[:, 2] / 2), *np.zeros((2, length)), np.sin(poses[:, 2] / 2)], axis=1
    )
    return {
        "observation.camera_position": np.insert(poses[:, :2], 2, 1.3, axis=1),
        "observation.camera_orientation": quaternion,
        "observation.camera_yaw": poses[:, 2],
        "observation.robot_position": np.insert(poses[:, :2], 2, 1.05, axis=1),
        "observation.robot_orientation": quaternion,
        "observation.robot_yaw": poses[:, 2],
        "observation.progress": np.arange(length) / length,
        "observation.step": 50 * np.arange(length),
        "observation.action": np.array(actions),
    }


def write_parquet(unit: Path, episode: int, columns: dict, length: int | None = None) -> Path:
    length = len(columns["observation.action"]) if length is None else length
    own = {
        "timestamp": np.arange(length, dtype=np.float32) / 6,
        "frame_index": np.arange(length),
        "episode_index": np.full(length, episode),
        "index": np.arange(length),
        "task_index": np.zeros(length, int),
    }
    arrays = {key: pa.array(np.asarray(value).tolist()) for key, value in (columns | own).items()}
    path = parquet_of(unit, episode)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), path)
    return path


def parquet_of(unit: Path, episode: int = 0) -> Path:
    return unit / "data" / "chunk-000" / f"episode_{episode:06d}.parquet"


def array_of(unit: Path, episode: int = 0, folder: str = RGB) -> Path:
    return unit / "videos" / "chunk-000" / folder / f"episode_{episode:06d}.npy"


def rgb_of(length: int, episode: int = 0, size=SIZE) -> np.ndarray:
    """(T, rows, columns, 3) uint8 that goes by episode and frame."""
    y, x = np.mgrid[: size[1], : size[0]]
    frames = [np.stack([x * 9, y * 11, x + 20 * t + 60 * episode], axis=-1) for t in range(length)]
    return (np.array(frames) % 256).astype(np.uint8)


def depth_of(length: int, size=SIZE) -> np.ndarray:
    """(T, rows, columns) float32, metres / 10."""
    y, x = np.mgrid[: size[1], : size[0]]
    return np.array([(5 * x + 9 * y + 40 * t) % 1000 / 1000 for t in range(length)], np.float32)


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_scene(
    unit: Path,
    walks: list[list[int]],
    instructions=INSTRUCTIONS,
    words=WORDS,
    ends: list[tuple[str, str]] | None = None,
    images: bool = False,
    size=SIZE,
) -> Path:
    """v0.5: `walks` are actions; `ends` are (finish_status, fail_reason) of each."""
    ends = ends or [("success", "")] * len(walks)
    tasks, stats, number = [], [], len(instructions)
    for episode, (actions, (status, reason)) in enumerate(zip(walks, ends, strict=True)):
        write_parquet(unit, episode, columns_of(actions))
        write_frames(unit, episode, len(actions), images, size)
        for i, text in enumerate(instructions):
            tasks.append(
                {
                    "task_index": number * episode + i,
                    "task": text,
                    "instruction_tokens": tokens_of(text, words),
                    "finish_status": status,
                    "fail_reason": reason,
                }
            )
        limits = {"min": number * episode, "max": number * episode + number - 1, "count": number}
        stats.append({"episode_index": episode, "task_index": limits})
    write_lines(unit / "meta" / "tasks.jsonl", tasks)
    write_lines(unit / "meta" / "episodes_stats.jsonl", stats)
    (unit / "meta" / "info.json").write_text('{"fps": 30, "features": {"action": {}}}')
    return unit


def write_frames(unit: Path, episode: int, length: int, images=False, size=SIZE) -> None:
    rgb, depth = rgb_of(length, episode, size), depth_of(length, size)
    for folder, frames in ((RGB, rgb), (DEPTH, depth)):
        path = array_of(unit, episode, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not images:
            np.save(path, frames)
    for t in range(length if images else 0):
        Image.fromarray(rgb[t]).save(
            array_of(unit, episode).with_suffix("").as_posix() + f"_{t}.png"
        )
        depth_mm = (depth[t] * 10_000).round().astype(np.uint16)
        stem = array_of(unit, episode, DEPTH).with_suffix("").as_posix()
        Image.fromarray(depth_mm).save(f"{stem}_{t}.png")


def write_trajectory(
    unit: Path, actions: list[int], instructions=INSTRUCTIONS, words=WORDS
) -> Path:
    """v0.1: one episode, its arrays named after what they hold."""
    write_parquet(unit, 0, columns_of(actions))
    for folder, name, frames in (
        (RGB, "rgb.npy", rgb_of(len(actions))),
        (DEPTH, "depth.npy", depth_of(len(actions))),
    ):
        path = array_of(unit, 0, folder).with_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, frames)
    rows = [
        {
            "episode_index": 0,
            "instruction_text": text,
            "instruction_tokens": tokens_of(text, words),
            "finish_status": "success",
            "fail_reason": "",
        }
        for text in instructions
    ]
    write_lines(unit / "meta" / "episodes.jsonl", rows)
    return unit


def read_walks(root: Path, scans=None) -> Iterator[WholeWalk]:
    """Every episode below a root, in order; the first broken one raises."""
    for unit in find_units(root, scans):
        records, wrong = read_records(unit)
        if wrong:
            raise wrong[0]
        yield from map(read_walk, records)


def write_root(root: Path, scans=("r2r",), scenes: int = 2, walks: int = 2, words=WORDS) -> Path:
    """`scenes` scenes a scan, with `walks` walks of different lengths each; names with '_'."""
    for scan in scans:
        for scene in range(scenes):
            actions = [some_actions(6 + 3 * k + scene) for k in range(walks)]
            write_scene(root / scan / f"scene_{scene}", actions, words=words)
    return root
