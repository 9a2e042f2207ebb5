"""Rows of `vln_ce` episodes: of one dataset, a folder with a folder for each scene, and one camera.

Reads every parquet file and lists every image folder. Poses, goals and depth are those of the
look-down view.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from internnav_hf.camera import CameraSpec
from internnav_hf.data.checks.cameras import recorded_values
from internnav_hf.data.episode import INFO_FILE, Episode, frame_folder, frame_pattern
from internnav_hf.data.formats.vln_ce.checks import (
    check_episode,
    look_down_camera,
    scene_problems,
    sound_walks,
)
from internnav_hf.data.formats.vln_ce.names import DatasetName, scene_folders
from internnav_hf.data.formats.vln_ce.reader import EPISODES_FILE, read_records
from internnav_hf.data.index import FolderRows, Reading, Source, episode_schema
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import unlisted
from internnav_hf.data.rows import camera_columns
from internnav_hf.data.tables import data_stamps, described, stamp
from internnav_hf.geometry import robot_poses

EPISODE_SCHEMA = episode_schema(
    described("scene", pa.string(), "folder below the dataset's"),
    *("episode_index", "length", "width", "height"),
    described("has_landmarks", pa.bool_(), "whether masks of the named object exist"),
    "instructions",
    described("hfov_deg", pa.float64(), "as the scene records it, if it does", False),
    described(
        "camera_poses",
        pa.list_(pa.float32()),
        "camera to world, the 3 upper rows of each frame's matrix in a row",
        False,
    ),
    uncounted="unit rgb_file ordinary_file depth_file landmark_file depth_scale focal center"
    " height_m pitch actions goal_frames goals poses",
)


def vln_ce(data_root: Path, name: DatasetName, needs_depth: bool = False) -> Source:
    """Return the dataset `name` below `data_root`. Episodes without depth images of the look-down
    view are broken if `needs_depth`.
    """
    return Source(
        root=data_root / name.folder,
        format="vln_ce",
        name=str(name),
        key=[5, str(name), needs_depth],
        schema=EPISODE_SCHEMA,
        find_folders=lambda: scene_folders(data_root, name, needs_depth),
        read_folder=lambda scene: read_scene(scene, name, needs_depth),
        stamps=lambda scene: scene_stamps(scene, (name.setting, name.look_down_setting)),
        agree=lambda parts: of_one_camera(parts, name),
    )


def scene_stamps(scene: Path, settings: Iterable[str]) -> Iterator[str]:
    """Yield stamps of a scene's files and image folders, not of images."""
    yield from data_stamps(scene, (EPISODES_FILE, INFO_FILE))
    for chunk in sorted((scene / "videos").glob("chunk-*")):
        for setting in settings:
            for kind in ("rgb", "landmark", "depth"):
                folder = f"observation.images.{kind}.{setting}"
                yield stamp(f"{chunk.name}/{folder}", chunk / folder)


def read_scene(scene: Path, name: DatasetName, needs_depth: bool) -> Iterator[Reading]:
    """Check every episode of a scene, and all together."""
    records, wrong = read_records(scene)
    camera = recorded_values(scene)
    yield from (*wrong, *unlisted(scene, records, EPISODES_FILE, len(wrong)))
    checked: dict[Episode, tuple[tuple[int, int], bool]] = {}
    for record in records:
        try:
            episode, size, has_landmarks = check_episode(record, name, needs_depth)
            checked[episode] = size, has_landmarks
        except ValueError as error:
            yield error
    sound, contradicted = sound_walks(scene, name, list(checked))
    yield from map(ValueError, contradicted)
    sizes = {episode: checked[episode][0] for episode in sound}
    wrong_images = scene_problems(scene, name, camera, sizes, needs_depth)
    yield from map(ValueError, wrong_images.values())
    for episode in sound:
        if episode not in wrong_images:
            yield _row(episode, name, camera, *checked[episode], needs_depth)


def _row(
    episode: Episode,
    name: DatasetName,
    camera: dict[str, float],
    size: tuple[int, int],
    has_landmarks: bool,
    has_depth: bool,
) -> dict[str, Any]:
    setting, scene = name.look_down_setting, episode.root
    T_world_camera = episode.columns[f"pose.{setting}"]

    def files(kind: str, setting: str) -> str:
        number = episode.episode_index
        folder = frame_folder(scene, number, kind, setting).relative_to(scene)
        return str(folder / frame_pattern(number, kind))

    return {
        "scene": scene.name,
        "unit": f"{scene.parent.name}/{scene.name}",
        "episode_index": episode.episode_index,
        "length": episode.length,
        "width": size[0],
        "height": size[1],
        "has_landmarks": has_landmarks,
        "instructions": episode.instructions,
        "hfov_deg": camera.get("hfov_deg"),
        "rgb_file": files("rgb", setting),
        "ordinary_file": files("rgb", name.setting),
        "depth_file": files("depth", setting) if has_depth else None,
        "landmark_file": files("landmark", setting) if has_landmarks else None,
        "depth_scale": CameraSpec.depth_scale,
        **camera_columns(look_down_camera(name, camera, size)),
        "actions": episode.actions,
        "goal_frames": episode.columns[f"relative_goal_frame_id.{setting}"],
        "goals": episode.columns[f"goal.{setting}"].ravel(),
        "poses": robot_poses(T_world_camera.astype(np.float64)).ravel(),
        "camera_poses": T_world_camera[:, :3].ravel(),
    }


def of_one_camera(parts: Sequence[FolderRows], name: DatasetName) -> list[FolderRows]:
    """Refuse scenes whose recorded field of view is not that of most episodes or, in a tie, the
    published one.
    """
    counts: Counter[float] = Counter()
    for part in parts:
        counts.update(row["hfov_deg"] for row in part.rows if row["hfov_deg"] is not None)
    usual = max(counts, key=lambda deg: (counts[deg], deg == CameraSpec.hfov_deg), default=None)
    return [_unless_another(part, usual, name) for part in parts]


def _unless_another(part: FolderRows, usual: float | None, name: DatasetName) -> FolderRows:
    hfov_deg = part.rows[0]["hfov_deg"] if part.rows else None
    if hfov_deg in (None, usual):
        return part
    expected = f"{usual:g} as other scenes of {name} have: it would be another camera"
    problem = broken(part.folder / INFO_FILE, "camera.hfov_deg", f"{hfov_deg:g}", expected)
    problems = [*part.problems, *[str(problem)] * len(part.rows)]
    return replace(part, rows=[], problems=problems)
