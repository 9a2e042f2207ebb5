"""ViPlanner's folders.

    <root>/<name>/camera_extrinsic_cam0.txt     x, y, z, qx, qy, qz, qw of the depth camera, a line
                                                a frame (x ahead, y left, z up)
    <root>/<name>/camera_extrinsic_cam1.txt     of the semantic camera; the same without a second
    <root>/<name>/intrinsics.txt                two lines of 3x4 matrices: depth, semantics
    <root>/<name>/depth/0012_cam0.png or .npy   millimetres
    <root>/<name>/semantics/0012_cam1.png       colours of the classes
    <root>/<name>/maps/data/cost_map_sem_map.txt, _ground.txt, maps/params/config_cost_map_sem.yaml
    <root>/<name>/cloud.ply                     points in colours of the classes

Semantic images are those of another camera: each depth pixel takes the colour that it has there,
and black where it is not seen. A map that is not there is built of the cloud, once.

Legend: N depth pixels.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from internnav_hf.camera import CameraSpec
from internnav_hf.data.cost_maps.clouds import SEMANTIC_NEIGHBOURS
from internnav_hf.data.cost_maps.geometric import GeometricSettings, geometric_map
from internnav_hf.data.cost_maps.grid import GridMap
from internnav_hf.data.cost_maps.semantic import (
    SemanticSettings,
    costs_of_colours,
    ground_of_colours,
    semantic_map,
)
from internnav_hf.data.formats.planners.iplanner import (
    ROBOT_FROM_OPTICAL,
    check_grids,
    read_grid,
)
from internnav_hf.data.formats.planners.scene import (
    CLOUD,
    Pinhole,
    built_map,
    check_covered,
    check_seen,
    cloud_points,
    known_depth,
    pose_matrices,
    read_numbers,
)
from internnav_hf.data.index import DEFAULT_CACHE
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import did_you_mean, open_file, state_of, subfolders
from internnav_hf.data.readers.images import open_depth, open_image
from internnav_hf.geometry import lift, project
from internnav_hf.models.planners.training_settings import PlainLoader
from internnav_hf.models.planners.views import UNKNOWN_CLASS

EXTRINSICS = "camera_extrinsic*.txt"
INTRINSICS = "intrinsics.txt"
MAPS = ("cost_map_sem", "cost_map_geom")
_LARGEST_YAML = 1 << 20


class ViPlannerScene:
    """One environment; see `PlannerScene`."""

    def __init__(
        self,
        folder: Path,
        cache_dir: Path = DEFAULT_CACHE,
        settings: GeometricSettings | SemanticSettings | None = None,
    ):
        self.folder, self.name, self.cache_dir = folder, folder.name, cache_dir
        self.settings = settings or SemanticSettings()
        files = sorted(folder.glob(EXTRINSICS))
        self.suffixes = [file.stem.removeprefix("camera_extrinsic") for file in files]
        poses = [pose_matrices(read_numbers(f, 7, "7 numbers a line"), f) for f in files]
        if len({len(part) for part in poses}) > 1:
            found = f"{[len(part) for part in poses]} poses"
            raise broken(folder, "camera_extrinsic", found, "as many of each camera")
        self.poses, self.semantic_poses = poses[0], poses[-1]
        self.walks = [range(len(self.poses))]
        matrices = read_numbers(folder / INTRINSICS, 12, "12 numbers a line").reshape(-1, 3, 4)
        self.pinholes = [Pinhole(matrices[row][:, :3]) for row in (0, -1)]
        self.size: tuple[int, int] | None = None
        rows, columns = self.depth(0).shape
        self.size = columns, rows
        self.camera: CameraSpec = self.pinholes[0].camera(self.size, folder / INTRINSICS)
        check_seen(self, folder / "depth")
        check_covered(self, folder)

    def depth(self, frame: int) -> np.ndarray:
        """(rows, columns) float32 metres; 0 where unknown."""
        path = self._file("depth", frame, self.suffixes[0], (".png", ".npy"))
        if path.suffix == ".npy":
            return known_depth(_read_array(path) / 1000, path, self.size)
        return known_depth(open_depth(path), path, self.size)

    def semantics(self, frame: int) -> np.ndarray | None:
        """(rows, columns, 3) uint8 colours of the classes at the pixels of `depth`; None without
        semantic images.
        """
        if not (self.folder / "semantics").is_dir():
            return None
        path = self._file("semantics", frame, self.suffixes[-1], (".png",))
        colours = np.asarray(open_image(path))
        self.pinholes[1].camera(colours.shape[1::-1], self.folder / INTRINSICS)
        matrices = (self.pinholes[0].intrinsics, self.pinholes[1].intrinsics)
        poses = (self.poses[frame], self.semantic_poses[frame])
        return warped(colours, self.depth(frame), *matrices, *poses)

    def rgb(self, frame: int) -> None:
        """There are none."""

    @cached_property
    def grid(self) -> GridMap:
        """The published map in the folder, of classes or of shapes as the settings are if there are
        both, or one built here.
        """
        folder = self.folder / "maps"
        names = MAPS if isinstance(self.settings, SemanticSettings) else MAPS[::-1]
        name = next((n for n in names if (folder / "data" / f"{n}_map.txt").exists()), None)
        if name is None and (self.folder / CLOUD).exists():
            return built_map(self.folder, self.cache_dir, self.settings, self._build)
        if name is None:
            expected = " or ".join(f"maps/data/{name}_map.txt" for name in MAPS)
            raise broken(self.folder, "maps", "none", f"{expected}, or {CLOUD} to make it of")
        costs, ground = (read_grid(folder / "data" / f"{name}_{k}.txt") for k in ("map", "ground"))
        check_grids(costs, ground, folder)
        return GridMap(costs, *read_place(folder / "params" / f"config_{name}.yaml"), ground)

    def _build(self) -> GridMap:
        points, colours = cloud_points(self.folder / CLOUD)
        if isinstance(self.settings, GeometricSettings):
            return geometric_map(points, self.settings)
        if colours is None:
            raise broken(self.folder / CLOUD, "colours", "none", "those of the classes")
        settings = replace(self.settings, stray_neighbours=SEMANTIC_NEIGHBOURS)
        is_ground = ground_of_colours(colours)
        return semantic_map(points, costs_of_colours(colours), settings, is_ground)

    def _file(self, kind: str, frame: int, suffix: str, endings: tuple[str, ...]) -> Path:
        files = [self.folder / kind / f"{frame:04d}{suffix}{ending}" for ending in endings]
        found = next((file for file in files if file.exists()), None)
        if found is None:
            expected = f"{' or '.join(f.name for f in files)}, one of {len(self.poses)} frames"
            raise broken(self.folder / kind, "image", "none", expected)
        return found


def warped(
    colours: np.ndarray,
    depth: np.ndarray,
    depth_intrinsics: np.ndarray,
    colour_intrinsics: np.ndarray,
    T_world_depth: np.ndarray,
    T_world_colour: np.ndarray,
) -> np.ndarray:
    """(rows, columns, 3) colours at the pixels of `depth` (rows, columns) metres, of an image
    (., ., 3) of another camera; black where it does not see them. Poses have x ahead.
    """
    found = np.full((*depth.shape, 3), UNKNOWN_CLASS, np.uint8)
    rows, columns = np.nonzero(depth > 0)
    uv = np.stack([columns, rows], axis=1) + 0.5
    T_depth, T_colour = T_world_depth @ ROBOT_FROM_OPTICAL, T_world_colour @ ROBOT_FROM_OPTICAL
    points = lift(uv, depth[rows, columns], T_depth, depth_intrinsics)
    pixels, _ = project(points, T_colour, colour_intrinsics)
    u, v = np.floor(np.nan_to_num(pixels, nan=-1.0)).astype(np.int64).T
    is_seen = (u >= 0) & (v >= 0) & (u < colours.shape[1]) & (v < colours.shape[0])
    found[rows[is_seen], columns[is_seen]] = colours[v[is_seen], u[is_seen]]
    return found


def read_place(path: Path) -> tuple[np.ndarray, float]:
    """Where a map starts (2,), and its resolution, from the settings that were saved with it."""
    with open_file(path, "settings of a map") as stream:
        text = stream.read(_LARGEST_YAML)
    try:
        told = yaml.load(text.decode(), PlainLoader)
        place = np.array([told["x_start"], told["y_start"]], np.float64)
        resolution_m = float(told["general"]["resolution"])
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, ValueError) as error:
        told = f"{type(error).__name__}: {error}"
        raise broken(path, "file", told, "x_start, y_start and general.resolution") from error
    if not np.isfinite(place).all() or not 0 < resolution_m < np.inf:
        raise broken(path, "resolution", resolution_m, "metres, above 0, and a finite start")
    return place, resolution_m


def _read_array(path: Path) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise broken(path, "file", f"{state_of(path)} ({error})", "an array of numbers") from error
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise broken(path, "shape", f"{found.dtype} {found.shape}", "(rows, columns) millimetres")
    return np.asarray(found, np.float64)


def viplanner_folders(root: Path, names: Sequence[str] | None = None) -> list[Path]:
    """Folders of the environments `names`, or of all."""
    known = [folder.name for folder in subfolders(root) if list(folder.glob(EXTRINSICS))]
    for name in names or ():
        if name not in known:
            raise ValueError(f"{root}: there is no environment {name}.{did_you_mean(name, known)}")
    return [root / name for name in (known if names is None else names)]
