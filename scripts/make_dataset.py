"""Generate navigation episodes with the embedded simulator.

    python scripts/make_dataset.py --format vln_ce --out DATA --scenes 100 --episodes 20 --seed 0
    python scripts/make_dataset.py --format vln_ce --out DATA --scene home.glb --episodes 50
    python scripts/make_dataset.py --format vln_pe --out DATA --scenes 100 --instructions 3
    python scripts/make_dataset.py --format vln_n1 --out DATA --scenes 100 --density easy hard

vln_ce, instruction following in discrete steps: train scenes go to DATA/r2r, held-out ones to
DATA/r2r_val_unseen. Train with `--data_root DATA --datasets r2r_125cm_0_30 --eval_datasets
r2r_val_unseen_125cm_0_30`.

vln_pe: the same with one view at each step, for Seq2Seq, CMA and RDP. vln_n1: continuous paths, for
NavDP and the planners. Train scenes go to DATA/simulated_train, held-out ones to
DATA/simulated_val_unseen: the scans, or groups, of `--data_root DATA`. The published images are
256x256 and 480x270.

A killed run continues where it stopped when it is started again.
"""

import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from internnav_hf.arguments.parsing import read_arguments
from internnav_hf.arguments.ranges import option
from internnav_hf.camera import CameraSpec
from internnav_hf.command_line import ends_in_one_line, output_folder
from internnav_hf.data.readers.json_files import read_json
from internnav_hf.files import atomic_folder, remove_stale, write_atomic
from internnav_hf.signals import end_with_parent
from internnav_hf.sim.episodes import EpisodeSampler, scene_seeds
from internnav_hf.sim.expert import Demonstration, Expert, draw_demonstrations
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.scenes import Scene, SceneConfig, generate_scene, load_scene, scene_config
from internnav_hf.sim.smooth_paths import FRAME_SPACING_M, SmoothPathSampler
from internnav_hf.sim.writers.vln_ce import Recording, vln_ce_folder
from internnav_hf.sim.writers.vln_n1 import DEPTH_SCALE, point_cloud, vln_n1_folder
from internnav_hf.sim.writers.vln_pe import record, vln_pe_folder

SIMULATED = {"train": "simulated_train", "val_unseen": "simulated_val_unseen"}
FOLDERS = {
    "vln_ce": {"train": "r2r", "val_unseen": "r2r_val_unseen"},
    "vln_pe": SIMULATED,
    "vln_n1": SIMULATED,
}
DISCRETE_OPTIONS = ("instructions", "exploration", "near_fraction")
CONTINUOUS_OPTIONS = (
    *("frame_spacing", "distance", "heading_noise", "trajectory_folders", "semantics"),
)
WITHOUT_EFFECT = {
    "vln_ce": (*CONTINUOUS_OPTIONS, "image_files", "turn_deg"),
    "vln_pe": (*CONTINUOUS_OPTIONS, "depth", "landmarks"),
    "vln_n1": (*DISCRETE_OPTIONS, "depth", "landmarks", "image_files", "turn_deg"),
}
ARGUMENTS_FILE = "make_dataset.json"
MAY_CHANGE = ("out", "scenes", "held_out_scenes", "workers")
MIN_DISTANCE_M = 1.0
LARGEST_SIDE = 8192  # pixels of an image


@dataclass
class DatasetArguments:
    """Options of the dataset to generate."""

    out: str = field(metadata={"help": "Folder to write; it can be used as a data_root."})
    format: Literal["vln_ce", "vln_pe", "vln_n1"] = field(
        default="vln_ce", metadata={"help": "Layout to write."}
    )
    scenes: int = field(default=100, metadata={"help": "Number of generated train scenes."})
    held_out_scenes: int | None = option(
        None, "Number of held-out scenes; default: a tenth, at least 1.", low=0
    )
    episodes: int = field(default=20, metadata={"help": "Number of episodes in each scene."})
    seed: int = field(default=0, metadata={"help": "Seed of scenes and episodes."})
    scene: list[str] | None = field(
        default=None, metadata={"help": "Mesh files (GLB, PLY, OBJ) instead of generated scenes."}
    )
    num_rooms: list[int] = field(
        default_factory=lambda: [2, 4], metadata={"help": "Fewest and most rooms of a scene."}
    )
    num_objects: list[int] = field(
        default_factory=lambda: [5, 8], metadata={"help": "Fewest and most pieces of furniture."}
    )
    density: list[str] | None = field(
        default=None,
        metadata={
            "help": "easy, medium or hard: cluttered rooms, as in the visual-navigation tasks, "
            "instead of --num_rooms and --num_objects; several alternate from scene to scene."
        },
    )
    width: int = option(640, "Width of the images, in pixels.", low=8, high=LARGEST_SIDE)
    height: int = option(480, "Height of the images, in pixels.", low=8, high=LARGEST_SIDE)
    hfov: float = field(default=79.0, metadata={"help": "Horizontal field of view, in degrees."})
    camera_height: float = field(default=1.25, metadata={"help": "Metres above the floor."})
    pitch: float = field(default=0.0, metadata={"help": "Ordinary pitch, in degrees down."})
    look_down_pitch: float = field(default=30.0, metadata={"help": "Look-down pitch, in degrees."})
    depth: bool = field(
        default=True, metadata={"help": "vln_ce: write depth images; other formats always do."}
    )
    landmarks: bool = field(
        default=False, metadata={"help": "vln_ce: write masks of the goal object."}
    )
    instructions: int = field(
        default=2, metadata={"help": "vln_ce, vln_pe: instructions for each episode, 1 to 3."}
    )
    exploration: float = field(
        default=0.0,
        metadata={"help": "vln_ce, vln_pe: probability of a burst of random actions at each step."},
    )
    near_fraction: float = field(
        default=0.0,
        metadata={"help": "vln_ce, vln_pe: share of episodes that start close to their goal."},
    )
    turn_deg: float = option(15.0, "vln_pe: degrees of a turn; DD-PPO's: 10.", above=0, high=90)
    image_files: bool = field(
        default=False, metadata={"help": "vln_pe: one file for each image, instead of arrays."}
    )
    frame_spacing: float = option(
        FRAME_SPACING_M, "vln_n1: distance between two frames, in metres.", above=0
    )
    distance: list[float] = field(
        default_factory=lambda: [2.5, 12.0],
        metadata={"help": "vln_n1: shortest and longest path, in metres."},
    )
    heading_noise: float = option(
        8.0, "vln_n1: standard deviation of the heading, in degrees.", low=0, high=180
    )
    semantics: bool = field(
        default=False, metadata={"help": "vln_n1: write images of ViPlanner's classes."}
    )
    trajectory_folders: bool = field(
        default=False, metadata={"help": "vln_n1: one folder for each trajectory, as in v0.1."}
    )
    grid_resolution: float = option(0.05, "Cells of the planning grid, in metres.", above=0, high=1)
    workers: int = field(default=os.cpu_count() or 1, metadata={"help": "Number of processes."})

    def __post_init__(self) -> None:
        for name in ("scenes", "episodes", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1; found {getattr(self, name)}.")
        if not 1 <= self.instructions <= 3:
            raise ValueError(f"--instructions must be 1, 2 or 3; found {self.instructions}.")
        for name in ("num_rooms", "num_objects", "distance"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"--{name} takes two numbers; found {getattr(self, name)}.")
        if not 0 < self.frame_spacing <= self.distance[0] <= self.distance[1]:
            raise ValueError(
                "--distance takes two positive lengths in order, and --frame_spacing must be "
                f"positive and none above them; found {self.distance} and {self.frame_spacing}."
            )
        if self.density and (self.num_rooms, self.num_objects) != ([2, 4], [5, 8]):
            raise ValueError("--density replaces --num_rooms and --num_objects; pass either.")
        for name in ("exploration", "near_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} is a share, 0 to 1; found {getattr(self, name)}.")

    @property
    def camera(self) -> CameraSpec:
        """The camera of all episodes."""
        return CameraSpec(
            width=self.width,
            height=self.height,
            hfov_deg=self.hfov,
            height_m=self.camera_height,
            pitch_deg=self.pitch,
            look_down_pitch_deg=self.look_down_pitch,
            **({"depth_scale": DEPTH_SCALE} if self.format == "vln_n1" else {}),
        )

    def scene_config(self, density: str | None) -> SceneConfig:
        """How scenes are generated."""
        if density is not None:
            return scene_config(density)
        (fewest_rooms, most_rooms), (fewest, most) = self.num_rooms, self.num_objects
        return SceneConfig(num_rooms=(fewest_rooms, most_rooms), num_objects=(fewest, most))


@dataclass(frozen=True)
class SceneJob:
    """One scene to write: `index` in its split, generated from `scene_seed` or read from `mesh`."""

    folder: Path
    index: int
    scene_seed: int
    mesh: str | None
    arguments: DatasetArguments

    @property
    def density(self) -> str | None:
        """The density of this scene: the requested ones alternate."""
        names = self.arguments.density
        return names[self.index % len(names)] if names else None

    def info(self, scene: Scene) -> dict:
        """The fields of `meta/info.json` from which the scene can be rebuilt."""
        return {"scene": scene.name} | ({"density": self.density} if self.density else {})


def main(arguments: DatasetArguments) -> None:
    """Write every scene that is not there yet."""
    _check(arguments)
    out = output_folder("--out", arguments.out)
    _remember_arguments(out, arguments)
    every_job = _jobs(out, arguments)
    jobs = [job for job in every_job if not job.folder.exists()]
    for folder in {job.folder.parent for job in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale(folder)
    counts = {"episodes": 0, "frames": 0}
    with (
        _parallel_map(arguments.workers) as parallel_map,
        tqdm(total=len(jobs), unit="scene", desc=str(out)) as progress,
    ):
        for episodes, frames in parallel_map(write_scene, jobs):
            counts["episodes"] += episodes
            counts["frames"] += frames
            progress.set_postfix(counts, refresh=False)
            progress.update()
    logging.info("%s: %d episodes, %d frames written", out, counts["episodes"], counts["frames"])
    missing = [job for job in jobs if not job.folder.exists()]
    if len(missing) == len(every_job):
        raise ValueError(f"No scene is large enough for a path of {_lengths(arguments)}.")
    if missing:
        logging.warning(
            "%d scenes are left out: no path of %s fits into them.",
            len(missing),
            _lengths(arguments),
        )


@contextmanager
def _parallel_map(workers: int) -> Iterator[Callable[..., Iterable]]:
    """`map` in `workers` processes. One means this process; more are not forked from it: a fork
    copies locks that its threads (embree's, pyarrow's, tqdm's) hold, and would wait forever.
    """
    if workers == 1:
        yield map
    else:
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
            yield pool.map


def write_scene(job: SceneJob) -> tuple[int, int]:
    """Generate and write one scene; returns the numbers of its episodes and frames."""
    scene = _load(job)
    space = NavigableSpace(scene, resolution_m=job.arguments.grid_resolution)
    writers = {"vln_ce": _write_vln_ce, "vln_pe": _write_vln_pe, "vln_n1": _write_vln_n1}
    return writers[job.arguments.format](job, scene, space)


def _write_vln_ce(job: SceneJob, scene: Scene, space: NavigableSpace) -> tuple[int, int]:
    arguments = job.arguments
    recording = Recording(arguments.camera, arguments.depth, arguments.landmarks)
    with vln_ce_folder(job.folder, Renderer(scene), recording, job.info(scene)) as writer:
        drawn = _demonstrations(job, scene, space)
        return _added(drawn, lambda expert, steps: writer.add(expert.episode, steps))


def _write_vln_pe(job: SceneJob, scene: Scene, space: NavigableSpace) -> tuple[int, int]:
    camera, images = job.arguments.camera, job.arguments.image_files
    renderer, drawn = Renderer(scene), _demonstrations(job, scene, space)
    with vln_pe_folder(job.folder, camera, job.info(scene), images) as writer:
        return _added(drawn, lambda *pair: writer.add(record(pair[0], pair[1], renderer, camera)))


def _demonstrations(
    job: SceneJob, scene: Scene, space: NavigableSpace
) -> Iterator[tuple[Expert, Demonstration]]:
    options, rng = job.arguments, np.random.default_rng(job.scene_seed)
    settings = (MIN_DISTANCE_M, options.near_fraction, options.instructions)
    sampler = EpisodeSampler(scene, space, *settings)
    exploration, turn_step = options.exploration, float(np.radians(options.turn_deg))
    return draw_demonstrations(sampler, options.episodes, rng, exploration, turn_step)


def _added(
    drawn: Iterator[tuple[Expert, Demonstration]], add: Callable[[Expert, Demonstration], None]
) -> tuple[int, int]:
    lengths = []
    for expert, demonstration in drawn:
        add(expert, demonstration)
        lengths.append(len(demonstration.actions))
    return len(lengths), sum(lengths)


def _write_vln_n1(job: SceneJob, scene: Scene, space: NavigableSpace) -> tuple[int, int]:
    arguments, rng = job.arguments, np.random.default_rng(job.scene_seed)
    (shortest, longest), noise = arguments.distance, float(np.radians(arguments.heading_noise))
    sampler = SmoothPathSampler(space, arguments.frame_spacing, shortest, longest, noise)
    drawn = (sampler.draw(rng) for _ in range(arguments.episodes))
    trajectories = [poses for poses in drawn if poses is not None]
    if not trajectories:
        if job.mesh is None:
            return 0, 0  # some generated rooms are too full; the others suffice
        raise ValueError(
            f"Scene {scene.name} is too small: no path of {_lengths(arguments)} fits into it."
        )
    parts = (Renderer(scene), point_cloud(scene), arguments.camera, job.info(scene))

    def write(folder: Path, some: list[np.ndarray]) -> None:
        with vln_n1_folder(folder, *parts, arguments.semantics) as writer:
            for poses in some:
                writer.add(poses)

    if arguments.trajectory_folders:
        with atomic_folder(job.folder) as folder:
            for index, poses in enumerate(trajectories):
                write(folder / f"trajectory_{index:06d}", [poses])
    else:
        write(job.folder, trajectories)
    return len(trajectories), sum(map(len, trajectories))


def _lengths(arguments: DatasetArguments) -> str:
    return "{:g} to {:g} m".format(*arguments.distance)


def _load(job: SceneJob) -> Scene:
    if job.mesh is not None:
        return load_scene(job.mesh)
    return generate_scene(job.scene_seed, job.arguments.scene_config(job.density))


def _jobs(out: Path, arguments: DatasetArguments) -> list[SceneJob]:
    """All scenes of all splits; mesh files are train scenes, none of them is held out."""
    folders = FOLDERS[arguments.format]
    if arguments.scene:
        seeds = scene_seeds(arguments.seed, "mesh", len(arguments.scene))
        return [
            SceneJob(out / folders["train"] / Path(mesh).stem, index, seed, mesh, arguments)
            for index, (seed, mesh) in enumerate(zip(seeds, arguments.scene, strict=True))
        ]
    held_out = arguments.held_out_scenes
    held_out = max(1, arguments.scenes // 10) if held_out is None else held_out
    counts = {"train": arguments.scenes, "val_unseen": held_out}
    return [
        SceneJob(out / folders[split] / f"scene_{index:05d}", index, seed, None, arguments)
        for split, count in counts.items()
        for index, seed in enumerate(scene_seeds(arguments.seed, split, count))
    ]


def _check(arguments: DatasetArguments) -> None:
    """Raise ValueError for wrong options before anything is written."""
    _ = arguments.camera
    defaults = _defaults()
    for name in WITHOUT_EFFECT[arguments.format]:
        if getattr(arguments, name) != defaults[name]:
            raise ValueError(
                f"--{name} has no effect on --format {arguments.format}; leave it out."
            )
    if not arguments.scene and arguments.camera_height >= SceneConfig.wall_height_m:
        raise ValueError(
            f"--camera_height: found {arguments.camera_height}, expected metres below the ceiling "
            f"of generated rooms, {SceneConfig.wall_height_m}."
        )
    if arguments.scene and arguments.density:
        raise ValueError("--density is for generated scenes, but --scene names mesh files.")
    for density in arguments.density or [None]:
        arguments.scene_config(density)
    meshes = [Path(mesh) for mesh in arguments.scene or []]
    for mesh in meshes:
        if not mesh.is_file():
            raise ValueError(f"There is no mesh file {mesh}.")
    names = [mesh.stem for mesh in meshes]
    if len(set(names)) < len(names):
        raise ValueError(f"Mesh files need different names (of folders); found {sorted(names)}.")


def _remember_arguments(out: Path, arguments: DatasetArguments) -> None:
    """Two runs into one folder must agree on everything but the number of scenes and processes."""
    ours = {key: value for key, value in asdict(arguments).items() if key not in MAY_CHANGE}
    path = out / ARGUMENTS_FILE
    names = [name for folders in FOLDERS.values() for name in folders.values()]
    if any(any((out / name).glob("[!.]*")) for name in names):
        if not path.exists():
            raise ValueError(f"{out} has scenes but no {ARGUMENTS_FILE}; choose another --out.")
        # Arguments that did not exist when the folder was made had their defaults.
        theirs = _defaults() | read_json(path)
        changed = [key for key in ours if ours[key] != theirs.get(key)]
        if changed:
            diff = ", ".join(f"{key} was {theirs.get(key)}, is {ours[key]}" for key in changed)
            raise ValueError(f"{out} was made with other arguments ({diff}); choose another --out.")
        return
    write_atomic(path, lambda part: part.write_text(json.dumps(ours, indent=2) + "\n"))


def _defaults() -> dict:
    return asdict(DatasetArguments(out=""))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with ends_in_one_line():
        main(*read_arguments([DatasetArguments], sys.argv[1:], __doc__))
