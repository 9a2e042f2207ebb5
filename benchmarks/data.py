"""The cost of a System2 sample, of an index of a million samples, and of a second start.

    python -m benchmarks.data

Everything is measured on one core in one run and compared with two bounds: only decoding and
resizing the ten images of a sample, and decoding both views and the depth of every frame up to the
end, as the published loader does. Episodes are synthetic: 60 frames of 640x480 JPEG, eight history
frames at 384x384.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from internnav_hf.command_line import LineParser
from internnav_hf.data import System2Dataset
from internnav_hf.data.episode import frame_folder, frame_name, parquet_path
from internnav_hf.data.formats.vln_ce.index import EPISODE_SCHEMA, vln_ce
from internnav_hf.data.formats.vln_ce.names import DatasetName, scene_folders
from internnav_hf.data.index import EPISODES, fingerprint
from internnav_hf.data.tables import write_table
from internnav_hf.data.tasks.system2_sampling import SAMPLE_SCHEMA, SAMPLES, history_indices
from internnav_hf.geometry import FORWARD_STEP_M, camera_pose
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.models.system2.processor import System2Processor
from tests.tiny.qwen_tokenizer import qwen_tokenizer

NAME = DatasetName.parse("r2r_125cm_0_30")
PITCH = float(np.radians(NAME.look_down_pitch_deg))
LENGTH = 60
HISTORY_SIZE = (384, 384)
ARROW_FILES = (SAMPLES, EPISODES)

OPEN_INDEX = """
import json, sys
import numpy as np
from internnav_hf.data.tables import open_table
def memory(kind):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024
before = memory("RssAnon"), memory("RssFile")
tables = [open_table(path) for path in sys.argv[1:]]
opened = memory("RssAnon"), memory("RssFile")
for row in np.random.default_rng(0).integers(tables[0].num_rows, size=10_000).tolist():
    tables[0].slice(row, 1).to_pylist()
after = memory("RssAnon"), memory("RssFile")
print(json.dumps([before, opened, after]))
"""


def main() -> None:
    """Print three small tables."""
    parser = LineParser(__doc__)
    parser.add_argument("--items", type=int, default=30, help="samples to measure")
    parser.add_argument("--samples", type=int, default=1_000_000, help="rows of the index")
    parser.add_argument("--episodes", type=int, default=150_000, help="files of a second start")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measure_items(Path(folder) / "items", options.items)
        measure_index(Path(folder) / "index", options.samples)
        measure_second_start(Path(folder) / "start", options.episodes)


def measure_items(folder: Path, num_items: int) -> None:
    """Milliseconds of one core per item: ours, with processor, and the two bounds."""
    for scene in range(2):
        write_scene(folder / "r2r" / f"scene{scene}", num_episodes=2, seed=scene)
    plain = System2Dataset(folder, str(NAME), cache_dir=folder / "cache")
    processor = System2Processor(image_processor(), qwen_tokenizer())
    encoded = System2Dataset(folder, str(NAME), processor=processor, cache_dir=folder / "cache")
    rows = [row for row in range(len(plain)) if is_whole(plain, row)][:num_items]
    bare = milliseconds(lambda row: decode_used(plain, row), rows)
    every = milliseconds(lambda row: decode_every(plain, row), rows[:: max(len(rows) // 5, 1)])
    print(f"\nmilliseconds of one core per sample ({len(rows)} samples of ten images)")
    for label, cost in (
        ("the ten decodes and resizes alone", bare),
        ("System2Dataset without processor", milliseconds(plain.__getitem__, rows)),
        ("System2Dataset with processor", milliseconds(encoded.__getitem__, rows)),
        ("decode both views and depth of every frame", every),
    ):
        print(f"  {label:<48}{cost:8.1f} {cost / bare:6.2f}x")


def image_processor() -> Qwen2VLImageProcessorPil:
    """The image processor of the released checkpoint."""
    return Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 12_845_056})


def is_whole(dataset: System2Dataset, row: int) -> bool:
    """A pixel goal with eight history frames."""
    sample = dataset.samples.slice(row, 1).to_pylist()[0]
    return sample["answer_class"] == AnswerKind.PIXEL_GOAL and sample["frame_index"] >= 8


def milliseconds(work: Callable[[int], object], rows: Sequence[int], rounds: int = 3) -> float:
    """Processor time per call, the best of some rounds; the first call is not counted."""
    work(rows[0])
    costs = []
    for _ in range(rounds):
        start = time.process_time()
        for row in rows:
            work(row)
        costs.append((time.process_time() - start) / len(rows) * 1000)
    return min(costs)


def frame_paths(dataset: System2Dataset, row: int) -> tuple[Callable[[str, int], Path], dict]:
    """A function to the path of a frame of the sample's episode, and the sample."""
    sample = dataset.samples.slice(row, 1).to_pylist()[0]
    episode = dataset.episodes.slice(sample["episode"], 1).to_pylist()[0]
    scene = Path(dataset.data_root) / NAME.folder / episode["scene"]
    number = episode["episode_index"]

    def path(setting: str, frame: int) -> Path:
        return frame_folder(scene, number, "rgb", setting) / frame_name(number, "rgb", frame)

    return path, sample


def decode_used(dataset: System2Dataset, row: int) -> None:
    """Decode nine ordinary views at the history's size, and one look-down view unchanged."""
    path, sample = frame_paths(dataset, row)
    for frame in [*history_indices(sample["frame_index"], 8), sample["frame_index"]]:
        with Image.open(path(NAME.setting, frame)) as image:
            image.resize(HISTORY_SIZE, Image.Resampling.BILINEAR)
    with Image.open(path(NAME.look_down_setting, sample["frame_index"])) as image:
        image.load()


def decode_every(dataset: System2Dataset, row: int) -> None:
    """Decode both views and the depth of frames 0 .. end."""
    path, sample = frame_paths(dataset, row)
    for frame in range(sample["end_frame"]):
        views = [path(setting, frame) for setting in (NAME.setting, NAME.look_down_setting)]
        depth = Path(str(views[0]).replace("images.rgb", "images.depth")).with_suffix(".png")
        for file in (*views, depth):
            with Image.open(file) as image:
                image.load()


def measure_index(folder: Path, num_samples: int) -> None:
    """Print disk and memory of a synthetic index that a new process opens."""
    folder.mkdir(parents=True)
    num_episodes = num_samples // 30
    files = [folder / name for name in ARROW_FILES]
    for table, file in zip(synthetic_index(num_samples, num_episodes), files, strict=True):
        write_table(table, file)
    command = [sys.executable, "-c", OPEN_INDEX, *map(str, files)]
    before, opened, after = json.loads(subprocess.check_output(command))
    disk = sum(file.stat().st_size for file in files)
    print(f"\nindex of {num_samples} samples, {num_episodes} episodes of two instructions")
    print(f"  disk                                   {disk / 1e6:8.1f} MB")
    print(f"  disk per sample                        {disk / num_samples:8.1f} bytes")
    print(f"  private memory after opening           {opened[0] - before[0]:8.1f} MiB more")
    print(f"  private memory after 10,000 rows read  {after[0] - before[0]:8.1f} MiB more")
    print(f"  mapped file pages, shared by all ranks {after[1] - before[1]:8.1f} MiB more")


def synthetic_index(num_samples: int, num_episodes: int) -> list[pa.Table]:
    """Tables of samples and episodes, with as many columns and characters as InternData-N1's."""
    rng = np.random.default_rng(0)
    classes = rng.choice(3, num_samples, p=[0.5, 0.2, 0.3])
    moves = [[], [2, 2], [0]]
    columns = [
        np.sort(rng.integers(num_episodes, size=num_samples)),
        rng.integers(2, size=num_samples),
        rng.integers(LENGTH, size=num_samples),
        rng.integers(LENGTH, size=num_samples),
        classes,
        rng.integers(640, size=num_samples),
        rng.integers(480, size=num_samples),
        [moves[kind] for kind in classes],
    ]
    text = "Walk past the long wooden table and wait beside the second door on your left, near it. "
    file = f"videos/chunk-000/observation.images.rgb.{NAME.setting}/episode_000000_#.jpg"
    rows = {
        "scene": [f"scene{number // 1000:03d}" for number in range(num_episodes)],
        "unit": [f"r2r/scene{number // 1000:03d}" for number in range(num_episodes)],
        "episode_index": range(num_episodes),
        "length": [LENGTH] * num_episodes,
        "instructions": [[text * 2, text * 2]] * num_episodes,
        **{name: [file] * num_episodes for name in ("rgb_file", "ordinary_file")},
        **{name: [[0] * LENGTH] * num_episodes for name in ("actions", "goal_frames")},
        "poses": [np.ones(LENGTH * 3)] * num_episodes,
        "goals": [np.ones(LENGTH * 2, np.int32)] * num_episodes,
        "camera_poses": [np.ones(LENGTH * 12, np.float32)] * num_episodes,
    }
    episodes = [rows.get(name, [None] * num_episodes) for name in EPISODE_SCHEMA.names]
    return [
        pa.Table.from_arrays(
            [pa.array(c, field.type) for c, field in zip(table, schema, strict=True)],
            schema=schema,
        )
        for table, schema in ((columns, SAMPLE_SCHEMA), (episodes, EPISODE_SCHEMA))
    ]


def measure_second_start(folder: Path, num_episodes: int) -> None:
    """Print the seconds to compare every file's time stamp when nothing has changed."""
    for first in range(0, num_episodes, 1000):
        scene = folder / "r2r" / f"scene{first // 1000:03d}"
        data = scene / "data" / "chunk-000"
        data.mkdir(parents=True)
        (scene / "meta").mkdir()
        (scene / "meta" / "episodes.jsonl").write_text("{}\n")
        for setting in (NAME.setting, NAME.look_down_setting):
            frame_folder(scene, 0, "rgb", setting).mkdir(parents=True)
        for number in range(min(1000, num_episodes - first)):
            (data / f"episode_{number:06d}.parquet").touch()
    start = time.perf_counter()
    fingerprint(vln_ce(folder, NAME), scene_folders(folder, NAME))
    seconds = time.perf_counter() - start
    print(f"\nsecond start with {num_episodes} episodes: {seconds:.2f} s to compare their stamps")


def write_scene(scene: Path, num_episodes: int, seed: int) -> None:
    """Episodes with a waypoint at every fourth frame."""
    rng = np.random.default_rng(seed)
    (scene / "meta").mkdir(parents=True)
    lines = []
    for number in range(num_episodes):
        record = {"episode_index": number, "tasks": ["Walk to the sofa. "], "length": LENGTH}
        lines.append(json.dumps(record))
        path = parquet_path(scene, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(synthetic_columns()), path)
        for setting in (NAME.setting, NAME.look_down_setting):
            folder = frame_folder(scene, number, "rgb", setting)
            folder.mkdir(parents=True, exist_ok=True)
            for frame in range(LENGTH):
                name = frame_name(number, "rgb", frame)
                synthetic_image(rng).save(folder / name, quality=90)
        write_depth(frame_folder(scene, number, "depth", NAME.setting), number, rng)
    (scene / "meta" / "episodes.jsonl").write_text("\n".join(lines))


def write_depth(folder: Path, episode_index: int, rng: np.random.Generator) -> None:
    """A smooth depth image in millimetres, 16 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(LENGTH):
        coarse = Image.fromarray(rng.uniform(500, 8000, size=(12, 16)).astype(np.float32))
        depth_mm = np.asarray(coarse.resize((640, 480), Image.Resampling.BILINEAR))
        image = Image.fromarray(depth_mm.astype(np.uint16))
        image.save(folder / frame_name(episode_index, "depth", frame), compress_level=1)


def synthetic_columns() -> dict[str, list]:
    """Steps ahead on a straight line."""
    setting = NAME.look_down_setting
    steps = [FORWARD_STEP_M * frame for frame in range(LENGTH)]
    relative = [8 if frame % 4 == 0 and frame < LENGTH - 8 else -1 for frame in range(LENGTH)]
    return {
        "action": [-1] + [1] * (LENGTH - 1),
        f"pose.{setting}": [camera_pose(x, 0.0, 0.0, 1.25, PITCH).tolist() for x in steps],
        f"goal.{setting}": [[320, 240] if ahead > 0 else [-1, -1] for ahead in relative],
        f"relative_goal_frame_id.{setting}": relative,
    }


def synthetic_image(rng: np.random.Generator) -> Image.Image:
    """Smooth patches with noise: about as many bytes as a rendered room."""
    coarse = Image.fromarray(rng.integers(256, size=(12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-6, 7, size=smooth.shape, dtype=np.int16)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
