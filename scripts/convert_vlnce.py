"""Convert VLN-CE walks, as StreamVLN records them, to LeRobot datasets.

    python scripts/convert_vlnce.py --data_dir DATA --out OUT
    python scripts/convert_vlnce.py --data_dir DATA --out OUT --version v3.0 --one_dataset true

DATA/R2R/annotations.json and DATA/R2R/images/<scene>_r2r_<number>/rgb/*.jpg become
OUT/vln_ce_lerobot/r2r/<scene>/<number>, a dataset for each walk, as published, or with
--one_dataset OUT/vln_ce_lerobot/r2r alone. `action` is, as in the source, the one that LED TO its
frame: -1 at the first. Images are copied, not encoded again.

A killed run goes on where it was when it is started again; what is whole is left as it is. Put on
the Hub what comes out with `hf upload`.
"""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from internnav_hf.arguments.parsing import read_arguments
from internnav_hf.command_line import ends_in_one_line, output_folder
from internnav_hf.data.formats.lerobot.export import export, listed
from internnav_hf.data.formats.streamvln import RecordedTrajectory, read_trajectories


@dataclass
class ConvertArguments:
    """What to convert, and to what."""

    data_dir: str = field(metadata={"help": "Folder with R2R, RxR, EnvDrop, ..."})
    out: str = field(metadata={"help": "Folder to write into."})
    datasets: list[str] = field(
        default_factory=lambda: ["R2R"], metadata={"help": "Folders of data_dir to convert."}
    )
    version: Literal["v2.1", "v3.0"] = field(
        default="v2.1", metadata={"help": "Of LeRobot's format."}
    )
    one_dataset: bool = field(
        default=False, metadata={"help": "All walks in one dataset, not one dataset for each."}
    )
    repo_name: str = field(default="vln_ce_lerobot", metadata={"help": "Folder below --out."})
    start_index: int = field(default=0, metadata={"help": "First entry of the annotations."})
    end_index: int | None = field(
        default=None, metadata={"help": "One past the last entry; default: all."}
    )
    skip_broken: bool = field(
        default=False, metadata={"help": "Leave out walks whose entry or folder is broken."}
    )
    num_threads: int = field(default=10, metadata={"help": "Read and write at the same time."})

    def __post_init__(self) -> None:
        if self.num_threads < 1:
            raise ValueError(f"--num_threads must be at least 1; found {self.num_threads}.")
        if self.start_index < 0 or (self.end_index or self.start_index + 1) <= self.start_index:
            raise ValueError(
                "--start_index and --end_index must be numbers of entries, in order; found "
                f"{self.start_index} and {self.end_index}."
            )


def main(arguments: ConvertArguments) -> None:
    """Write what is not there yet."""
    out = output_folder("--out", arguments.out)
    for name in arguments.datasets:
        walks = read(Path(arguments.data_dir) / name, arguments)
        root = out / arguments.repo_name / name.lower()
        jobs = {root: walks} if arguments.one_dataset else by_folder(root, walks)
        left = {folder: some for folder, some in jobs.items() if not folder.exists()}
        if arguments.one_dataset:
            for folder, some in left.items():
                export(folder, some, arguments.version, arguments.num_threads)
        else:
            export_each(left, arguments)
        logging.info(
            "%s: %d datasets written, %d were there", root, len(left), len(jobs) - len(left)
        )


def read(folder: Path, arguments: ConvertArguments) -> list[RecordedTrajectory]:
    """The walks of a set; broken ones are one error, or left out if asked."""
    found = list(read_trajectories(folder, arguments.start_index, arguments.end_index))
    walks = [walk for walk in found if isinstance(walk, RecordedTrajectory)]
    problems = [str(problem) for problem in found if isinstance(problem, ValueError)]
    if problems:
        told = listed(f"{folder}: {len(problems)} of {len(found)} walks are broken", problems)
        if not arguments.skip_broken:
            raise ValueError(f"{told}\nPass --skip_broken true to convert the others.")
        logging.warning(told)
    if not walks:
        raise ValueError(f"{folder}: found no walk in the entries asked for.")
    return walks


def export_each(jobs: dict[Path, list[RecordedTrajectory]], arguments: ConvertArguments) -> None:
    """Datasets of one walk each; those that cannot be written are one error, after the others."""

    def write(job: tuple[Path, list[RecordedTrajectory]]) -> str:
        try:
            export(*job, arguments.version)
        except ValueError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(arguments.num_threads) as pool:
        told = list(tqdm(pool.map(write, jobs.items()), total=len(jobs), unit="walk"))
    if problems := [problem for problem in told if problem]:
        message = listed(f"{len(problems)} of {len(told)} walks are broken", problems)
        if not arguments.skip_broken:
            raise ValueError(message)
        logging.warning(message)


def by_folder(root: Path, walks: list[RecordedTrajectory]) -> dict[Path, list[RecordedTrajectory]]:
    """Each walk in its place; two that share one are an error."""
    jobs: dict[Path, list[RecordedTrajectory]] = {}
    for walk in walks:
        folder = root / walk.scene / walk.number
        if folder in jobs:
            raise ValueError(
                f"{walk.name} and {jobs[folder][0].name} would both be written to {folder}; pass "
                "--one_dataset true, or convert them separately."
            )
        jobs[folder] = [walk]
    return jobs


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with ends_in_one_line():
        main(*read_arguments([ConvertArguments], sys.argv[1:], __doc__))
