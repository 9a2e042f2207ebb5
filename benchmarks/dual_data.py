"""The cost of reading a sample of the dual system, part by part.

    python -m benchmarks.dual_data

One core, one run: `DualSystemDataset` with and without the processor, compared with decoding both
views and the depth of every frame up to the goal, as the published loader does. Samples are
synthetic, as large as the golden's: 640x480 JPEG and 16-bit PNG, eight past frames at 384x384, the
current one and the look-down view, six frames on the path with depth. Ends with an error if a
sample without processor costs more than `LIMIT_MS`.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.data import (
    LENGTH,
    NAME,
    PITCH,
    image_processor,
    is_whole,
    milliseconds,
    synthetic_columns,
    synthetic_image,
    write_depth,
)
from internnav_hf.command_line import LineParser
from internnav_hf.data import DualSystemDataset, System2Dataset
from internnav_hf.data.episode import Episode, frame_folder, frame_name, parquet_path
from internnav_hf.data.readers.images import open_depth, open_image
from internnav_hf.data.rows import EpisodeRow
from internnav_hf.data.tasks.dual_system import camera_poses
from internnav_hf.geometry import FORWARD_STEP_M, camera_pose
from internnav_hf.models.system2.processor import System2Processor
from internnav_hf.trajectory import trajectory_actions
from tests.tiny.qwen_tokenizer import qwen_tokenizer

LIMIT_MS = 100.0
ROUNDS = 6  # the best one counts, for each sample: other processes slow the others down
FRAMES_AHEAD = 12  # distance of the goal; every second frame is part of the sample


def main() -> None:
    """Print the table; the exit code is 1 above the limit."""
    parser = LineParser(__doc__)
    parser.add_argument("--items", type=int, default=5, help="samples to measure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(Path(folder), options.items)
    print(f"\nmilliseconds of one core per sample ({FRAMES_AHEAD // 2} frames on the path)")
    for label, cost in costs.items():
        print(f"  {label:<52}{cost:8.1f}")
    reached, published = costs["without processor"], costs["every frame up to the goal, decoded"]
    print(
        f"\n{published / reached:.1f} times less than decoding every frame; limit {LIMIT_MS:g} ms"
    )
    if reached > LIMIT_MS:
        sys.exit(f"a sample costs {reached:.1f} ms without processor")


def measure(folder: Path, num_items: int) -> dict[str, float]:
    """Milliseconds by name; the parts are differences of whole samples."""
    write_scene(folder / "r2r" / "scene", seed=0)
    plain = make(folder)
    rows = [row for row in range(len(plain)) if is_whole(plain, row)][:num_items]

    def cost(work: Callable[[int], object]) -> float:
        return float(np.mean([milliseconds(work, [row], ROUNDS) for row in rows]))

    system2 = cost(
        System2Dataset(folder, str(NAME), cache_dir=folder, pixel_goal_only=True).__getitem__
    )
    without_depth = cost(make(folder, depth=False).__getitem__)
    targets = cost(lambda row: make_targets(plain, row))
    whole = cost(plain.__getitem__)
    processor = System2Processor(image_processor(), qwen_tokenizer())
    encoded = cost(make(folder, processor=processor).__getitem__)
    every = cost(lambda row: decode_every(*frames_of(plain, row)))
    return {
        "System2's ten images": system2,
        "five more look-down views, 224x224": without_depth - system2 - targets,
        "six depth images": whole - without_depth,
        "poses and six trajectories": targets,
        "without processor": whole,
        "the processor": encoded - whole,
        "with processor": encoded,
        "every frame up to the goal, decoded": every,
    }


def make(folder: Path, **options) -> DualSystemDataset:
    """The dataset as the recipe makes it."""
    return DualSystemDataset(folder, str(NAME), cache_dir=folder / "cache", **options)


def frames_of(dataset: DualSystemDataset, row: int) -> tuple[Episode, int, int]:
    """The episode, the frame of the decision, and the goal's."""
    sample = dataset.samples.slice(row, 1).to_pylist()[0]
    episode = dataset.episodes.slice(sample["episode"], 1).to_pylist()[0]
    root = Path(dataset.data_root) / NAME.folder / episode["scene"]
    found = Episode(root, episode["episode_index"], (), {})
    return found, sample["frame_index"], sample["end_frame"] - 1


def make_targets(dataset: DualSystemDataset, row: int) -> None:
    """Read one column of the index, and compute a spline for each frame."""
    _, start, goal = frames_of(dataset, row)
    episode = dataset.samples["episode"][row].as_py()
    poses = camera_poses(EpisodeRow(dataset.episodes, episode, dataset.data_root))
    for frame in range(start, goal, 2):
        trajectory_actions(poses[frame : goal + 1], PITCH)


def decode_every(episode: Episode, start: int, goal: int) -> None:
    """Decode both views and the depth of frames 0 .. goal, and nothing else."""
    for frame in range(goal + 1):
        for setting in (NAME.setting, NAME.look_down_setting):
            open_image(episode.frame_path("rgb", setting, frame))
        open_depth(episode.frame_path("depth", NAME.look_down_setting, frame))


def write_scene(scene: Path, seed: int) -> None:
    """One episode with a waypoint at every fourth frame."""
    rng = np.random.default_rng(seed)
    (scene / "meta").mkdir(parents=True)
    record = {"episode_index": 0, "tasks": ["Walk to the sofa. "], "length": LENGTH}
    (scene / "meta" / "episodes.jsonl").write_text(json.dumps(record))
    path = parquet_path(scene, 0)
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(walking_columns()), path)
    for setting in (NAME.setting, NAME.look_down_setting):
        folder = frame_folder(scene, 0, "rgb", setting)
        folder.mkdir(parents=True)
        for frame in range(LENGTH):
            synthetic_image(rng).save(folder / frame_name(0, "rgb", frame), quality=90)
    write_depth(frame_folder(scene, 0, "depth", NAME.look_down_setting), 0, rng)


def walking_columns() -> dict[str, list]:
    """A straight path with goals `FRAMES_AHEAD` frames ahead."""
    setting = NAME.look_down_setting
    steps = np.arange(LENGTH) * FORWARD_STEP_M
    ahead = [
        FRAMES_AHEAD if f % 4 == 0 and f < LENGTH - FRAMES_AHEAD else -1 for f in range(LENGTH)
    ]
    return {
        **synthetic_columns(),
        f"pose.{setting}": [camera_pose(x, 0.0, 0.0, 1.25, PITCH).tolist() for x in steps],
        f"goal.{setting}": [[320, 240] if step > 0 else [-1, -1] for step in ahead],
        f"relative_goal_frame_id.{setting}": ahead,
    }


if __name__ == "__main__":
    main()
