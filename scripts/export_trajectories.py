"""Write episodes with poses in the layout of GNM, ViNT and NoMaD, and topological maps of them.

    python scripts/make_dataset.py --format vln_n1 --out DATA --scenes 20
    python scripts/export_trajectories.py --data_root DATA --groups simulated_train --out OUT

OUT/trajectories/NAME has 0.jpg, 1.jpg, ... and traj_data.pkl, one for each stretch of an episode in
which the robot drives forward, as published; OUT/splits/{train,test}/traj_names.txt are names, a
fifth of them held out; OUT/topomaps/NAME is a map of each of the first --maps episodes, for
`MapGoal(read_map(FOLDER))`. Published frames are 160x120; here they keep their size. What exists is
kept.
"""

import logging
import sys
from dataclasses import dataclass, field

from tqdm import tqdm

from internnav_hf.arguments.parsing import read_arguments
from internnav_hf.arguments.ranges import option
from internnav_hf.command_line import ends_in_one_line, output_folder
from internnav_hf.data import ImageGoalDataset
from internnav_hf.data.formats.trajectory_export import write_map, write_names, write_trajectories
from internnav_hf.data.rows import EpisodeRow
from internnav_hf.data.tasks.image_goal_targets import SampleRules


@dataclass
class ExportArguments:
    """Source and target."""

    data_root: str = field(metadata={"help": "Data with poses, of any format."})
    out: str = field(metadata={"help": "Folder to write."})
    groups: list[str] | None = option(None, "Some of its groups or scans; default: all.")
    cut: bool = option(True, "Cut episodes where the robot does not drive forward.")
    test_fraction: float = option(0.2, "Share of held-out trajectories.", low=0, high=1)
    maps: int = option(10, "Number of topological maps.", low=0)
    frames_per_node: int = option(4, "Frames from one node of a map to the next.", low=1)
    cache_dir: str | None = option(None, "Folder of the index.")


def main(arguments: ExportArguments) -> None:
    """Write trajectories, splits and maps."""
    out = output_folder("--out", arguments.out)
    shortest = SampleRules(num_memory_frames=1, action_horizon=1, end_slack=0)
    given = {"groups": arguments.groups, "cache_dir": arguments.cache_dir}
    dataset = ImageGoalDataset(arguments.data_root, shortest, **given)
    names, episodes = [], dataset.episodes
    for number in tqdm(range(episodes.num_rows), desc="trajectories", unit="episode"):
        episode = EpisodeRow(episodes, number, dataset.data_roots[0])
        name = f"{episode['unit']}_{episode['episode_index']}".replace("/", "_")
        names += write_trajectories(out / "trajectories", episode, name, arguments.cut)
        if number < arguments.maps:
            write_map(out / "topomaps" / name, episode, arguments.frames_per_node)
    held_out = round(len(names) * arguments.test_fraction)
    for split, chosen in (("train", names[held_out:]), ("test", names[:held_out])):
        if chosen:
            write_names(out / "splits" / split, chosen)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with ends_in_one_line():
        main(*read_arguments([ExportArguments], sys.argv[1:], __doc__))
