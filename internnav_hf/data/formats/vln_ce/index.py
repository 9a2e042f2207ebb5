"""The table of samples of one dataset: built and checked once, then memory-mapped.

Building reads every parquet file and lists every image folder. The result is two Arrow files in a
cache folder named after what they were made from, so that the next start, and every other rank,
compares file stamps and maps memory.
"""

import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from internnav_hf.camera import CameraSpec
from internnav_hf.data.checks.cameras import recorded_values
from internnav_hf.data.episode import INFO_FILE, Episode
from internnav_hf.data.formats.vln_ce.checks import (
    FrameFiles,
    check_episode,
    scene_problems,
    sound_walks,
)
from internnav_hf.data.formats.vln_ce.names import DatasetName, check_depth_folders, scene_folders
from internnav_hf.data.formats.vln_ce.reader import EPISODES_FILE, EpisodeRecord, read_records
from internnav_hf.data.index import (
    NUM_THREADS,
    build_once,
    described,
    folder_stamps,
    open_table,
    refuse_too_many_broken,
    report_broken,
    stamp,
    table_of,
    write_table,
)
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import all_broken, check_name, each_once, unlisted
from internnav_hf.data.tasks.system2_sampling import (
    PIXEL_GOAL,
    STOP,
    TURN,
    SamplingRules,
    sample_episode,
)
from internnav_hf.geometry import robot_poses

logger = logging.getLogger(__name__)

READER_VERSION = 5  # part of the cache's name; raise it when rules, checks or columns change


SAMPLE_SCHEMA = pa.schema(
    [
        described("episode", pa.int32(), "row of the episodes table"),
        described("instruction_index", pa.int16(), "which of the episode's instructions"),
        described("frame_index", pa.int32(), "the frame at which System2 is asked"),
        described(
            "end_frame", pa.int32(), "one past the last frame; a waypoint is reached before it"
        ),
        described("answer_class", pa.int8(), "0 pixel goal, 1 turn, 2 stop"),
        described("goal_u", pa.int16(), "pixel goal in the look-down image, -1 for none"),
        described("goal_v", pa.int16(), "pixel goal in the look-down image, -1 for none"),
        described("actions", pa.list_(pa.int8()), "answered actions of a turn or a stop"),
    ]
)
EPISODE_SCHEMA = pa.schema(
    [
        described("scene", pa.string(), "folder below the dataset's"),
        described("episode_index", pa.int32(), "number in the file names"),
        described("length", pa.int32(), "frames"),
        described("width", pa.int16(), "of the images, px"),
        described("height", pa.int16(), "of the images, px"),
        described("has_landmarks", pa.bool_(), "whether masks of the named object exist"),
        described("instructions", pa.list_(pa.string()), "as written, verbatim"),
        described("poses", pa.list_(pa.float64()), "x, y, yaw of each frame in a row", False),
        described(
            "camera_poses",
            pa.list_(pa.float32()),
            "look-down camera to world, the 3 upper rows of each frame's matrix in a row",
            False,
        ),
    ]
)


@dataclass(frozen=True, eq=False)
class Index:
    """Tables `samples` and `episodes` of the schemas above; `hfov_deg` is None where no scene
    records it.
    """

    name: DatasetName
    samples: pa.Table
    episodes: pa.Table
    hfov_deg: float | None
    num_episodes: int
    broken_episodes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SceneIndex:
    """What one scene adds; `episode` in `samples` counts from this scene's first."""

    scene: Path
    samples: pa.Table
    episodes: pa.Table
    hfov_deg: float | None
    num_episodes: int
    broken_episodes: list[str]


def open_index(
    data_root: Path,
    name: DatasetName,
    rules: SamplingRules,
    cache_dir: Path,
    max_broken_fraction: float = 0.01,
) -> Index:
    """Map the cached index, or build it first; broken episodes are left out with a warning, or
    refused if too many.
    """
    scenes = scene_folders(data_root, name)
    if rules.needs_depth:
        check_depth_folders(scenes, name)
    folder = cache_dir / f"{name}-{fingerprint(scenes, name, rules)}"
    build_once(folder, lambda new: _build(scenes, name, rules, new, max_broken_fraction))
    index = _load(folder, name)
    problems = index.broken_episodes
    report_broken(str(name), problems, index.num_episodes, max_broken_fraction, folder)
    return index


def fingerprint(scenes: list[Path], name: DatasetName, rules: SamplingRules) -> str:
    """Names, sizes and times of everything an index is made from, image folders included, images
    not.
    """
    settings = (name.setting, name.look_down_setting)
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps([READER_VERSION, str(name), asdict(rules)]).encode())
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for stamps in pool.map(lambda scene: scene_stamps(scene, settings), scenes):
            digest.update(stamps)
    return digest.hexdigest()


def scene_stamps(scene: Path, settings: Iterable[str]) -> bytes:
    """A line per file: relative path, size, time of change."""
    lines = [stamp(scene.name, scene / file) for file in (EPISODES_FILE, INFO_FILE)]
    for chunk in sorted((scene / "data").glob("chunk-*")):
        lines += folder_stamps(chunk)
    for chunk in sorted((scene / "videos").glob("chunk-*")):
        for setting in settings:
            for kind in ("rgb", "landmark", "depth"):
                folder = f"observation.images.{kind}.{setting}"
                lines.append(stamp(f"{chunk.name}/{folder}", chunk / folder))
    return "\n".join(lines).encode(errors="surrogateescape")


def _build(
    scenes: list[Path],
    name: DatasetName,
    rules: SamplingRules,
    folder: Path,
    max_broken_fraction: float,
) -> None:
    logger.info(
        "Checking %d scenes of %s and building their index in %s", len(scenes), name, folder.parent
    )
    parts = list(index_scenes(scenes, name, rules))
    index = join_scenes(parts, name, rules)
    refuse_too_many_broken(
        str(name), index.broken_episodes, index.num_episodes, max_broken_fraction
    )
    if index.samples.num_rows == 0:
        raise ValueError(f"{scenes[0].parent}: no sample in {index.num_episodes} episodes")
    save_index(index, folder)
    logger.info("%s: %d samples of %d episodes", name, index.samples.num_rows, index.num_episodes)


def index_scenes(
    scenes: list[Path], name: DatasetName, rules: SamplingRules
) -> Iterator[SceneIndex]:
    """In the order of `scenes`, with a progress bar (a line every half minute in a log file)."""

    def part_of(scene: Path, other: Path | None) -> SceneIndex:
        return index_scene(scene, name, rules, other)

    seconds = 0.2 if sys.stderr.isatty() else 30
    progress = tqdm(desc=f"index {name}", unit=" episodes", mininterval=seconds)
    with progress, ThreadPoolExecutor(NUM_THREADS) as pool:
        for part in pool.map(part_of, *zip(*each_once(scenes), strict=True)):
            progress.update(part.num_episodes)
            yield part


def index_scene(
    scene: Path, name: DatasetName, rules: SamplingRules, other: Path | None = None
) -> SceneIndex:
    """Check every episode of a scene, and all together, and take its samples, stops once. None is
    taken if it is, by a link, an `other` one.
    """
    if other is not None:
        again = broken(scene, "folder", f"{other} again", "each folder once")
        return _broken_scene(scene, [again])
    try:
        check_name(scene)
        records, wrong = read_records(scene)
        camera = recorded_values(scene)
    except ValueError as error:
        return _broken_scene(scene, all_broken(scene, [error]))
    if not records:
        return _broken_scene(scene, all_broken(scene, wrong))
    numbers = [record.episode_index for record in records]
    wrong += unlisted(scene, numbers, EPISODES_FILE, len(wrong))
    problems = list(map(str, wrong))
    files = FrameFiles(scene)
    checked = {
        entry[0]: entry[1:] for entry in _sound_episodes(records, files, name, rules, problems)
    }
    sound, contradicted = sound_walks(scene, name, list(checked))
    problems += contradicted
    sizes = {episode: checked[episode][0] for episode in sound}
    wrong_images = scene_problems(scene, name, camera, sizes, rules.needs_depth)
    problems += wrong_images.values()
    sound = [episode for episode in sound if episode not in wrong_images]
    return SceneIndex(
        scene,
        *_tables(scene, name, rules, [(episode, *checked[episode]) for episode in sound]),
        float(camera["hfov_deg"]) if "hfov_deg" in camera else None,
        len(sound) + len(problems),
        problems,
    )


def _tables(
    scene: Path,
    name: DatasetName,
    rules: SamplingRules,
    checked: list[tuple[Episode, tuple[int, int], bool]],
) -> tuple[pa.Table, pa.Table]:
    episodes, samples = [], []
    for episode, size, has_landmarks in checked:
        found = sample_episode(
            episode.actions,
            episode.columns[f"relative_goal_frame_id.{name.look_down_setting}"],
            episode.columns[f"goal.{name.look_down_setting}"],
            rules,
        )
        for instruction_index in range(len(episode.instructions)):
            samples += [(len(episodes), instruction_index, *sample) for sample in found]
        key = (scene.name, episode.episode_index, episode.length)
        T_world_camera = episode.columns[f"pose.{name.look_down_setting}"]
        poses = (
            robot_poses(T_world_camera.astype(np.float64)).ravel(),
            T_world_camera[:, :3].ravel(),
        )
        episodes.append((*key, *size, has_landmarks, episode.instructions, *poses))
    return table_of(samples, SAMPLE_SCHEMA), table_of(episodes, EPISODE_SCHEMA)


def _broken_scene(scene: Path, problems: list[ValueError] | list[str]) -> SceneIndex:
    samples, episodes = table_of([], SAMPLE_SCHEMA), table_of([], EPISODE_SCHEMA)
    return SceneIndex(scene, samples, episodes, None, len(problems), list(map(str, problems)))


def _sound_episodes(
    records: list[EpisodeRecord],
    files: FrameFiles,
    name: DatasetName,
    rules: SamplingRules,
    problems: list[str],
) -> Iterator[tuple[Episode, tuple[int, int], bool]]:
    """Episodes that pass every check; a sentence about each other one is added to `problems`."""
    for record in records:
        try:
            checked = check_episode(record, name, files, rules.needs_depth)
        except ValueError as error:
            problems.append(str(error))
        else:
            yield checked


def join_scenes(parts: list[SceneIndex], name: DatasetName, rules: SamplingRules) -> Index:
    """All pixel goals, then all turns, then the whole list of stops `stop_repeat` times: the
    published order.
    """
    parts, hfov_deg = _of_one_camera(parts, name)
    tables, first_episode = [], 0
    for part in parts:
        tables.append(shift_episodes(part.samples, first_episode))
        first_episode += part.episodes.num_rows
    samples = pa.concat_tables(tables)
    classes = samples["answer_class"].to_numpy()
    by_class = {
        kind: samples.filter(pa.array(classes == kind)) for kind in (PIXEL_GOAL, TURN, STOP)
    }
    ordered = [by_class[PIXEL_GOAL]]
    if not rules.pixel_goal_only:
        ordered += [by_class[TURN], *[by_class[STOP]] * rules.stop_repeat]
    return Index(
        name,
        pa.concat_tables(ordered),
        pa.concat_tables([part.episodes for part in parts]),
        hfov_deg,
        sum(part.num_episodes for part in parts),
        tuple(problem for part in parts for problem in part.broken_episodes),
    )


def shift_episodes(samples: pa.Table, first_episode: int) -> pa.Table:
    """Let `episode` point into a longer table, in which these samples' episodes start later."""
    field = SAMPLE_SCHEMA.field("episode")
    shifted = pa.array(samples["episode"].to_numpy() + np.int32(first_episode), field.type)
    return samples.set_column(0, field, shifted)


def _of_one_camera(
    parts: list[SceneIndex], name: DatasetName
) -> tuple[list[SceneIndex], float | None]:
    """Scenes that tell of another field of view than most episodes, or in doubt than the published
    one, are broken.
    """
    counts: Counter[float] = Counter()
    for part in parts:
        if part.hfov_deg is not None:
            counts[part.hfov_deg] += part.episodes.num_rows
    usual = max(counts, key=lambda deg: (counts[deg], deg == CameraSpec.hfov_deg), default=None)
    for place, part in enumerate(parts):
        if part.hfov_deg not in (None, usual):
            path = part.scene / INFO_FILE
            expected = f"{usual:g} as other scenes of {name} have: it would be another camera"
            problem = str(broken(path, "camera.hfov_deg", f"{part.hfov_deg:g}", expected))
            problems = [*part.broken_episodes, *[problem] * part.episodes.num_rows]
            parts = [*parts[:place], _broken_scene(part.scene, problems), *parts[place + 1 :]]
    return parts, usual


def save_index(index: Index, folder: Path) -> None:
    """Two Arrow files, and what is true of all."""
    for key, table in (("samples", index.samples), ("episodes", index.episodes)):
        write_table(table, folder / f"{key}.arrow")
    info = {
        "hfov_deg": index.hfov_deg,
        "num_episodes": index.num_episodes,
        "broken_episodes": index.broken_episodes,
    }
    (folder / "info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")


def _load(folder: Path, name: DatasetName) -> Index:
    info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    samples, episodes = (open_table(folder / f"{key}.arrow") for key in ("samples", "episodes"))
    return Index(
        name,
        samples,
        episodes,
        info["hfov_deg"],
        info["num_episodes"],
        tuple(info["broken_episodes"]),
    )
