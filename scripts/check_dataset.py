"""Say what a dataset folder holds, and which of its episodes are broken.

    python scripts/check_dataset.py data/vln_ce/traj_data
    python scripts/check_dataset.py data/vln_ce/traj_data/r2r --dataset r2r_125cm_0_30
    python scripts/check_dataset.py data/vln_n1
    python scripts/check_dataset.py data/vln_pe/traj_data
    python scripts/check_dataset.py data/recon          # trajectories of GNM, ViNT and NoMaD
    python scripts/check_dataset.py data/iplanner       # environments of iPlanner or ViPlanner

Reads every episode anew, without the cache. Exit code 1 if something is broken or nothing readable
is found.
"""

import argparse
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, product
from pathlib import Path

from tqdm import tqdm

from internnav_hf.command_line import LineParser, ends_in_one_line, positive_number, whole_number
from internnav_hf.data.cost_maps.geometric import GeometricSettings
from internnav_hf.data.episode import parquet_path, read_info
from internnav_hf.data.formats.planners.iplanner import POSES
from internnav_hf.data.formats.planners.viplanner import EXTRINSICS
from internnav_hf.data.formats.trajectories import is_trajectory_root, trajectories
from internnav_hf.data.formats.vln_ce.index import vln_ce
from internnav_hf.data.formats.vln_ce.names import DatasetName, camera_settings, parse_dataset_names
from internnav_hf.data.formats.vln_ce.reader import SETTING_COLUMNS, find_scenes, read_records
from internnav_hf.data.formats.vln_n1.index import ReadingRules, vln_n1
from internnav_hf.data.formats.vln_n1.reader import DEPTH_SCALE, FRAME_ORDERS
from internnav_hf.data.formats.vln_pe.frames import DEPTH_UNIT_M, FrameRules
from internnav_hf.data.formats.vln_pe.index import ReadingRules as VLNRules
from internnav_hf.data.formats.vln_pe.index import vln_pe
from internnav_hf.data.formats.vln_pe.reader import is_vln_pe
from internnav_hf.data.index import EpisodeTable, index_folders
from internnav_hf.data.readers.columns import column_names
from internnav_hf.data.readers.folders import subfolders, walk_folders, with_siblings
from internnav_hf.data.readers.images import open_image
from internnav_hf.data.rows import EpisodeRow
from internnav_hf.data.tasks.image_goal_targets import mean_spacing
from internnav_hf.data.tasks.planner import open_scenes
from internnav_hf.data.tasks.system2_sampling import SamplingRules, sample_table

PUBLISHED_CAMERAS = ("125cm_0_30", "125cm_0_45", "60cm_15_15", "60cm_30_30")
CLASS_NAMES = ("pixel goals", "turns", "stops")
OTHER_LAYOUTS = (
    "data/ beside videos/ (vln_n1, vln_pe), TRAJECTORY/traj_data.pkl, NAME/odom_ground_truth.txt "
    "(iPlanner) and NAME/camera_extrinsic*.txt (ViPlanner)"
)
ACTION_NAMES = ("stop", "forward", "left", "right")


def main() -> int:
    """Print the report; the number of broken things decides the exit code."""
    options = parse_arguments()
    for is_unit, report in ((is_vln_pe, report_vln_pe), (is_vln_n1, report_vln_n1)):
        units = list(units_below(options.root, is_unit)) if options.root.is_dir() else []
        if units:
            return verdict(report(options, with_siblings(units, options.root)))
    if is_trajectory_root(options.root):
        return verdict(report_trajectories(options))
    if planner_names(options.root):
        return verdict(report_planners(options))
    try:
        scenes = with_siblings(find_scenes(options.root), options.root)
        wanted = parse_dataset_names(options.dataset) if options.dataset else []
    except ValueError as error:
        print(error)
        print(f"The other layouts are known by {OTHER_LAYOUTS}.")
        return 1
    num_broken = 0
    groups = [(folder, list(group)) for folder, group in groupby(scenes, lambda s: s.parent)]
    for name in wanted:
        if name.folder not in [folder.name for folder, _ in groups]:
            print(f"no folder {name.folder!r}; there is {[folder.name for folder, _ in groups]}")
            num_broken += 1
    for folder, group in groups:
        num_broken += report_folder(folder, group, wanted, options)
    return verdict(num_broken)


def verdict(num_broken: int) -> int:
    """The exit code."""
    print(f"{num_broken} broken" if num_broken else "nothing is broken")
    return 1 if num_broken else 0


def parse_arguments() -> argparse.Namespace:
    """See `--help`."""
    parser = LineParser(__doc__)
    parser.add_argument("root", type=Path, help="a scene, a dataset, or a folder of datasets")
    parser.add_argument("--dataset", help="only these, as in r2r_125cm_0_30,rxr_60cm_15_15")
    parser.add_argument("--verify-images", action="store_true", help="decode every image")
    parser.add_argument(
        "--max-listed", type=whole_number(0), default=20, help="broken episodes to print"
    )
    parser.add_argument(
        "--depth-scale",
        type=positive_number,
        default=DEPTH_SCALE,
        help="vln_n1: units of depth per metre",
    )
    parser.add_argument(
        "--frame-order", choices=FRAME_ORDERS, default="numeric", help="vln_n1: see its reader"
    )
    parser.add_argument(
        "--depth-unit-m",
        type=positive_number,
        default=DEPTH_UNIT_M,
        help="vln_pe: what 1 means in arrays",
    )
    return parser.parse_args()


def report_folder(
    folder: Path, scenes: list[Path], wanted: list[DatasetName], options: argparse.Namespace
) -> int:
    """One dataset: its layout, then each camera; returns how much is broken."""
    names = [name for name in wanted if name.folder == folder.name]
    if wanted and not names:
        return 0
    print(f"\n{folder}: {len(scenes)} scenes")
    layouts = map(detect_layout, scenes)
    layout, columns = next((found for found in layouts if found[1]), detect_layout(scenes[0]))
    print(f"  layout: {layout}")
    settings = sorted({setting for scene in scenes for setting in camera_settings(scene)})
    print(f"  cameras with images: {', '.join(settings) or 'none'}")
    report_columns(settings, columns)
    names = names or usable_names(folder.name, settings, columns)
    if not names:
        print("  no camera has images, poses and goals: System2 cannot learn from this folder")
        return 1
    return sum(report_dataset(name, scenes, options) for name in names)


def detect_layout(scene: Path) -> tuple[str, list[str]]:
    """A guess in words from the first episode, and its columns."""
    try:
        version = read_info(scene).get("codebase_version", "version not recorded")
        records, wrong = read_records(scene)
        if not records:
            raise wrong[0]
        columns = column_names(parquet_path(scene, records[0].episode_index))
    except ValueError as error:
        return f"unreadable first episode: {error}", []
    if any(column.startswith("pose.") for column in columns):
        return f"InternData-N1 vln_ce, a dialect of LeRobot v2.1 ({version})", columns
    if "observation.camera_extrinsic" in columns:
        return f"InternData-N1 vln_n1 ({version}): for System1, not for System2", columns
    return f"LeRobot ({version}) without pose columns: {', '.join(columns)}", columns


def report_columns(settings: list[str], columns: list[str]) -> None:
    """Print which columns the first episode lacks for the cameras that have images."""
    wanted = ["action"]
    wanted += [name.replace(".S", f".{s}") for s in settings for name in SETTING_COLUMNS]
    missing = [name for name in wanted if name not in columns]
    if missing and columns:
        print(f"  missing columns in the first episode: {', '.join(missing)}")


def usable_names(folder: str, settings: list[str], columns: list[str]) -> list[DatasetName]:
    """The published cameras that are there; else the lowest pitch of each height with every steeper
    one.
    """

    def is_usable(camera: str) -> bool:
        name = DatasetName.parse(f"{folder}_{camera}")
        has_columns = f"goal.{name.look_down_setting}" in columns
        return has_columns and {name.setting, name.look_down_setting} <= set(settings)

    cameras = [camera for camera in PUBLISHED_CAMERAS if is_usable(camera)]
    if not cameras:
        cameras = [camera for camera in _pairs(settings) if is_usable(camera)]
    return [DatasetName.parse(f"{folder}_{camera}") for camera in cameras]


def _pairs(settings: list[str]) -> Iterator[str]:
    parts = sorted(tuple(map(int, s.removesuffix("deg").split("cm_"))) for s in settings)
    for height, group in groupby(parts, lambda part: part[0]):
        pitches = [pitch for _, pitch in group]
        for steeper in pitches[1:] or pitches:
            yield f"{height}cm_{pitches[0]}_{steeper}"


def report_dataset(name: DatasetName, scenes: list[Path], options: argparse.Namespace) -> int:
    """Check all episodes for one camera and count what System2 would learn from them."""
    try:
        settings = (camera_settings(scene, "depth") for scene in scenes)
        has_depth = any(name.look_down_setting in found for found in settings)
        root = scenes[0].parents[1]
        table = index_folders(vln_ce(root, name, has_depth), scenes)
    except ValueError as error:
        print(f"  {name}: {error}")
        return 1
    num_instructions = sum(len(texts) for texts in table.episodes["instructions"].to_pylist())
    samples = sample_table(table.episodes, SamplingRules(stop_repeat=1), root)
    counts = Counter(samples["answer_class"].to_pylist())
    shown = ", ".join(f"{counts[kind]} {word}" for kind, word in enumerate(CLASS_NAMES))
    print(f"  {name}: {table.num_episodes} episodes, {num_instructions} instructions")
    print(f"    samples: {shown} (x5 in training)")
    problems = list(table.broken_episodes)
    if options.verify_images:
        kinds = ["rgb"] if name.setting == name.look_down_setting else ["ordinary", "rgb"]
        problems += broken_images(table, root, [*kinds, *["depth"] * has_depth])
    list_broken(problems, options.max_listed)
    return len(problems)


def list_broken(problems: list[str], max_listed: int) -> None:
    """Equal ones once, with their number."""
    counts = Counter(problems)
    for problem, count in list(counts.items())[:max_listed]:
        print(f"    broken: {problem}" + (f" ({count} episodes)" if count > 1 else ""))
    if len(counts) > max_listed:
        print(f"    and {len(counts) - max_listed} more")


def broken_images(table: EpisodeTable, root: Path, kinds: Sequence[str]) -> list[str]:
    """Decode every frame that training may open."""
    problems = []
    rows = (EpisodeRow(table.episodes, row, root) for row in range(table.episodes.num_rows))
    for row in tqdm(rows, "  images", table.episodes.num_rows, leave=False, disable=None):
        for kind, frame in product(kinds, range(row["length"])):
            try:
                row.depth(frame) if kind == "depth" else open_image(row.file(kind, frame))
            except ValueError as error:
                problems.append(str(error))
    return problems


def units_below(folder: Path, is_unit: Callable[[Path], bool]) -> Iterator[Path]:
    """Folders with episodes of a kind, at or below `folder`; none where its first are others."""
    with_data = (path for path in walk_folders(folder, _has_data) if _has_data(path))
    first = next(with_data, None)
    if first is not None and is_unit(first):
        yield from (first, *filter(is_unit, with_data))


def _has_data(folder: Path) -> bool:
    return (folder / "data").is_dir()


def is_vln_n1(folder: Path) -> bool:
    """Whether it has System1's images; vln_ce's folders are named after the camera as well."""
    return any(folder.glob("videos/chunk-*/observation.images.rgb"))


def report_vln_n1(options: argparse.Namespace, units: list[Path]) -> int:
    """Check all of System1's episodes, and say what they are."""
    rules = ReadingRules(None, options.frame_order, options.depth_scale)
    with tempfile.TemporaryDirectory() as folder:
        table = index_folders(vln_n1(options.root, rules, Path(folder)), units)
    print(f"\n{options.root}: {len(units)} folders with episodes")
    print("  layout: InternData-N1 vln_n1, for System1 (NavDP)")
    describe_vln_n1(table)
    problems = list(table.broken_episodes)
    if options.verify_images:
        problems += broken_images(table, options.root, ("rgb", "depth"))
    list_broken(problems, options.max_listed)
    return len(problems)


def describe_vln_n1(table: EpisodeTable) -> None:
    """Numbers of what is whole."""
    rows = table.episodes.to_pylist()
    lengths = sorted(row["length"] for row in rows)
    print(f"  {len(rows)} of {table.num_episodes} episodes are whole, {sum(lengths)} frames")
    if not rows:
        return
    middle = lengths[len(lengths) // 2]
    print(f"  lengths: {lengths[0]} to {lengths[-1]} frames, half of them up to {middle}")
    cameras = Counter(
        f"{row['width']}x{row['height']} px, focal {row['focal'][0]:.1f} px,"
        f" {row['height_m']:.2f} m high, {math.degrees(row['pitch']):.1f}° down"
        for row in rows
    )
    for camera, count in cameras.most_common(5):
        print(f"  camera: {camera} ({count} episodes)")
    if len(cameras) > 5:
        print(f"  and {len(cameras) - 5} more cameras")


def report_trajectories(options: argparse.Namespace) -> int:
    """Check all trajectories, and say how far apart their frames are."""
    source = trajectories(options.root)
    table = index_folders(source, source.find_folders())
    lengths = sorted(table.episodes["length"].to_pylist())
    print(f"\n{options.root}: {table.num_episodes} trajectories")
    print("  layout: of GNM, ViNT and NoMaD, for image goals")
    print(f"  {len(lengths)} of them are whole, {sum(lengths)} frames")
    if lengths:
        rows = (EpisodeRow(table.episodes, row, options.root) for row in range(len(lengths)))
        spacing_m = mean_spacing([row.poses for row in rows])
        print(
            f"  lengths: {lengths[0]} to {lengths[-1]} frames, on average {spacing_m:.3g} m apart"
        )
    problems = list(table.broken_episodes)
    if options.verify_images:
        problems += broken_images(table, options.root, ("rgb",))
    list_broken(problems, options.max_listed)
    return len(problems)


def planner_names(root: Path) -> list[str]:
    """Environments of iPlanner or ViPlanner."""
    folders = subfolders(root) if root.is_dir() else []
    return [f.name for f in folders if (f / POSES).exists() or any(f.glob(EXTRINSICS))]


def report_planners(options: argparse.Namespace) -> int:
    """Open each environment with its map, and say how long it is."""
    problems: list[str] = []
    names = planner_names(options.root)
    print(f"\n{options.root}: {len(names)} environments of iPlanner or ViPlanner")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            try:
                settings = GeometricSettings()
                (scene,) = open_scenes(options.root, [name], settings, Path(folder))
                cells = "x".join(map(str, scene.grid.costs.shape))
                print(f"  {name}: {len(scene.poses)} frames, a map of {cells} cells")
                for frame in range(len(scene.poses)) if options.verify_images else ():
                    scene.depth(frame)
                    scene.semantics(frame)
            except ValueError as error:
                problems.append(str(error))
    list_broken(problems, options.max_listed)
    return len(problems)


def report_vln_pe(options: argparse.Namespace, units: list[Path]) -> int:
    """Check all episodes of `vln_pe`, and describe them."""
    whole_names = [unit.absolute() for unit in units]
    rules = VLNRules(frames=FrameRules(options.depth_unit_m))
    table = index_folders(vln_pe(whole_names[0].parents[1], rules), whole_names)
    print(f"\n{options.root}: {len(units)} folders with episodes")
    print("  layout: InternData-N1 vln_pe, for Seq2Seq, CMA and RDP; with a camera for all models")
    describe_vln_pe(table)
    problems = list(table.broken_episodes)
    if options.verify_images:
        problems += broken_episodes(whole_names[0].parents[1], table)
    list_broken(problems, options.max_listed)
    return len(problems)


def describe_vln_pe(table: EpisodeTable) -> None:
    """Numbers of what is whole."""
    rows = table.episodes.to_pylist()
    left_out = ", ".join(f"{count} {end}" for end, count in table.left_out.items())
    print(f"  {len(rows)} of {table.num_episodes} episodes are used")
    print(f"  failed episodes that are left out: {left_out or 'none'}")
    if not rows:
        return
    lengths = sorted(row["length"] for row in rows)
    middle = lengths[len(lengths) // 2]
    print(f"  lengths: {lengths[0]} to {lengths[-1]} frames, half of them up to {middle}")
    actions = Counter(action for row in rows for action in row["actions"])
    shown = ", ".join(f"{actions[label]} {word}" for label, word in enumerate(ACTION_NAMES))
    print(f"  actions: {shown}")
    num_instructions = sum(len(row["instructions"]) for row in rows)
    num_stored = sum(len(row["instruction_tokens"]) for row in rows)
    print(f"  instructions: {num_instructions}, {num_stored} of them with stored word ids")


def broken_episodes(root: Path, table: EpisodeTable) -> list[str]:
    """Read every frame of all episodes."""
    problems = []
    rows = (EpisodeRow(table.episodes, row, root) for row in range(table.episodes.num_rows))
    for row in tqdm(rows, "  images", table.episodes.num_rows, leave=False, disable=None):
        try:
            row.images(row["num_recorded"])
            row.depths(row["num_recorded"])
        except ValueError as error:
            problems.append(str(error))
    return problems


if __name__ == "__main__":
    with ends_in_one_line():
        sys.exit(main())
