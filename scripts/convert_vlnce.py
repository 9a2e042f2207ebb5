"""Convert VLN-CE episodes, as recorded by StreamVLN, to LeRobot datasets.

    python scripts/convert_vlnce.py --data_dir DATA --out OUT
    python scripts/convert_vlnce.py --data_dir DATA --out OUT --version v3.0 --one_dataset true

DATA/R2R/annotations.json and DATA/R2R/images/<scene>_r2r_<number>/rgb/*.jpg become
OUT/vln_ce_lerobot/r2r/<scene>/<number>, one dataset for each episode, as published, or with
--one_dataset just OUT/vln_ce_lerobot/r2r. `action` is, as in the source, the one that LED TO its
frame: -1 at the first. Images are copied, not re-encoded.

A killed run continues where it stopped when it is started again; complete datasets are not written
again. Upload the result to the Hub with `hf upload`.
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
    """Source, target and format of the conversion."""

    data_dir: str = field(metadata={"help": "Folder with R2R, RxR, EnvDrop, ..."})
    out: str = field(metadata={"help": "Folder to write into."})
    datasets: list[str] = field(
        default_factory=lambda: ["R2R"], metadata={"help": "Folders of data_dir to convert."}
    )
    version: Literal["v2.1", "v3.0"] = field(
        default="v2.1", metadata={"help": "Version of LeRobot's format."}
    )
    one_dataset: bool = field(
        default=False, metadata={"help": "Write one dataset, not one for each episode."}
    )
    repo_name: str = field(default="vln_ce_lerobot", metadata={"help": "Folder below --out."})
    start_index: int = field(default=0, metadata={"help": "First entry of the annotations."})
    end_index: int | None = field(
        default=None, metadata={"help": "One past the last entry; default: all."}
    )
    skip_broken: bool = field(
        default=False, metadata={"help": "Leave out episodes whose entry or folder is broken."}
    )
    num_threads: int = field(default=10, metadata={"help": "Threads that read and write."})

    def __post_init__(self) -> None:
        if self.num_threads < 1:
            raise ValueError(f"--num_threads must be at least 1; found {self.num_threads}.")
        if self.start_index < 0 or (self.end_index or self.start_index + 1) <= self.start_index:
            raise ValueError(
                "--start_index and --end_index must be indices of entries, in order; found "
                f"{self.start_index} and {self.end_index}."
            )


def main(arguments: ConvertArguments) -> None:
    """Write all datasets that do not exist yet."""
    out = output_folder("--out", arguments.out)
    for name in arguments.datasets:
        episodes = read(Path(arguments.data_dir) / name, arguments)
        root = out / arguments.repo_name / name.lower()
        jobs = {root: episodes} if arguments.one_dataset else by_folder(root, episodes)
        left = {folder: some for folder, some in jobs.items() if not folder.exists()}
        if arguments.one_dataset:
            for folder, some in left.items():
                export(folder, some, arguments.version, arguments.num_threads)
        else:
            export_each(left, arguments)
        logging.info("%s: %d datasets written, %d existed", root, len(left), len(jobs) - len(left))


def read(folder: Path, arguments: ConvertArguments) -> list[RecordedTrajectory]:
    """The episodes of a set; broken ones raise one error, or are left out with --skip_broken."""
    found = list(read_trajectories(folder, arguments.start_index, arguments.end_index))
    episodes = [one for one in found if isinstance(one, RecordedTrajectory)]
    problems = [str(problem) for problem in found if isinstance(problem, ValueError)]
    if problems:
        message = listed(f"{folder}: {len(problems)} of {len(found)} episodes are broken", problems)
        if not arguments.skip_broken:
            raise ValueError(f"{message}\nPass --skip_broken true to convert the others.")
        logging.warning(message)
    if not episodes:
        raise ValueError(f"{folder}: found no episode in the requested entries.")
    return episodes


def export_each(jobs: dict[Path, list[RecordedTrajectory]], arguments: ConvertArguments) -> None:
    """Write one dataset for each episode; failures raise one error after all others are done."""

    def write(job: tuple[Path, list[RecordedTrajectory]]) -> str:
        try:
            export(*job, arguments.version)
        except ValueError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(arguments.num_threads) as pool:
        results = list(tqdm(pool.map(write, jobs.items()), total=len(jobs), unit="episode"))
    if problems := [problem for problem in results if problem]:
        message = listed(f"{len(problems)} of {len(results)} episodes are broken", problems)
        if not arguments.skip_broken:
            raise ValueError(message)
        logging.warning(message)


def by_folder(
    root: Path, episodes: list[RecordedTrajectory]
) -> dict[Path, list[RecordedTrajectory]]:
    """The folder of each episode; ValueError if two share one."""
    jobs: dict[Path, list[RecordedTrajectory]] = {}
    for episode in episodes:
        folder = root / episode.scene / episode.number
        if folder in jobs:
            raise ValueError(
                f"{episode.name} and {jobs[folder][0].name} would both be written to {folder}; "
                "pass --one_dataset true, or convert them separately."
            )
        jobs[folder] = [episode]
    return jobs


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with ends_in_one_line():
        main(*read_arguments([ConvertArguments], sys.argv[1:], __doc__))
