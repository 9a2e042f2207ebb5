"""Mesh files, read by trimesh: triangles, colours, textures, and nodes that look like furniture.

Files may be hostile: only files below the mesh's folder are opened, sizes are bounded, and any
failure inside trimesh is one ValueError that names the file.
"""

import logging
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

logger = logging.getLogger(__name__)

FORMATS = ("glb", "gltf", "obj", "off", "ply", "stl")  # no archives, no formats without triangles
LARGEST_FILE = 2**32  # bytes
LARGEST_M = 500.0  # largest side of a scene
MOST_TEXELS = 2**27, 2**29  # in one texture, in all together

_BUILDING = re.compile(r"wall|floor|ceiling|roof|ground|door|window|room|house|building|stair")
_ANONYMOUS = re.compile(
    r"^(geometry|mesh|object|node|primitive|default|world|scene|group|material|untitled|model)?$"
)


@dataclass(frozen=True)
class MeshTextures:
    """Images, the image of each face (-1: none, but a plain colour), and its corners' coordinates.

    `face_uv` (F, 3, 2) lies in [0, 1], v upwards; images repeat outside.
    """

    images: list[np.ndarray]
    face_texture: np.ndarray
    face_uv: np.ndarray


@dataclass(frozen=True)
class MeshFile:
    """A mesh; each of `objects` is (name, (x, y) of the centre, size, instance id)."""

    vertices: np.ndarray
    faces: np.ndarray
    face_colors: np.ndarray
    face_instance: np.ndarray
    objects: list[tuple[str, tuple[float, float], tuple[float, float, float], int]]
    textures: MeshTextures | None


# What trimesh and Pillow raise for broken files; none of it is a fault of the machine.
_BROKEN = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NameError,
    RecursionError,
    MemoryError,
    OSError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_mesh_file(path: Path, up_axis: str = "auto") -> MeshFile:
    """The mesh, z up, floor at z = 0; ValueError for a broken file, and one too large."""
    if up_axis not in ("auto", "y", "z"):
        raise ValueError(f"up_axis must be auto, y or z; found {up_axis!r}.")
    _check_file(path)
    try:
        return _read(path, up_axis)
    except _BROKEN as error:
        problem = str(error) or type(error).__name__
        raise ValueError(f"{path} cannot be read as a mesh: {problem}") from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"There is no mesh file {path}.")
    if path.suffix.lower().lstrip(".") not in FORMATS:
        raise ValueError(f"{path} has no supported mesh format; use one of {', '.join(FORMATS)}.")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(f"{path}: found {size} bytes, expected a mesh of at most {LARGEST_FILE}.")


def _read(path: Path, up_axis: str) -> MeshFile:
    parts = _load_parts(path)
    y_up = up_axis == "y" or (up_axis == "auto" and path.suffix.lower() in (".glb", ".gltf"))
    vertices = [mesh.vertices for _, mesh in parts]
    if y_up:
        vertices = [np.stack([v[:, 0], -v[:, 2], v[:, 1]], axis=1) for v in vertices]
    starts = np.cumsum([0, *[len(part) for part in vertices]])
    faces = [mesh.faces + start for (_, mesh), start in zip(parts, starts, strict=False)]
    stacked = np.concatenate(vertices).astype(np.float32)
    all_faces = np.concatenate(faces).astype(np.int32)
    _check_geometry(stacked, parts)
    stacked[:, 2] -= _floor_height(stacked, all_faces)
    _check_textures([mesh for _, mesh in parts])
    objects, instances = [], []
    for (name, mesh), start, part in zip(parts, starts, vertices, strict=False):
        thing = _as_object(name, stacked[start : start + len(part)], len(objects) + 1)
        instances.append(np.full(len(mesh.faces), thing[3] if thing else 0, dtype=np.int32))
        objects += [thing] if thing else []
    return MeshFile(
        stacked,
        all_faces,
        np.concatenate([_face_colors(mesh) for _, mesh in parts]),
        np.concatenate(instances),
        objects,
        _textures([mesh for _, mesh in parts]),
    )


def _check_geometry(vertices: np.ndarray, parts: list[tuple[str, Any]]) -> None:
    if not np.isfinite(vertices).all():
        raise ValueError("it has vertices that are not finite numbers")
    for name, mesh in parts:
        low, high = int(mesh.faces.min()), int(mesh.faces.max())
        if low < 0 or high >= len(mesh.vertices):
            raise ValueError(f"{name} has {len(mesh.vertices)} vertices, and faces index others")
    size = np.ptp(vertices, axis=0)
    if size.max() > LARGEST_M:
        sides = " x ".join(f"{side:.0f}" for side in size)
        raise ValueError(
            f"it is {sides} m large, expected at most {LARGEST_M:.0f}; scale it if its unit is a "
            "millimetre or centimetre"
        )


def _load_parts(path: Path) -> list[tuple[str, Any]]:
    """(node name, mesh in world coordinates) in name order."""
    import trimesh

    with _images_are_read(path):
        loaded = trimesh.load_scene(path, resolver=_neighbours(path))
    parts = []
    for node in sorted(loaded.graph.nodes_geometry):
        transform, geometry = loaded.graph[node]
        mesh = loaded.geometry[geometry]
        if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces):
            parts.append((str(node), mesh.copy().apply_transform(transform)))
    if not parts:
        raise ValueError("it has no triangles")
    return parts


def _neighbours(path: Path) -> Any:
    """A resolver that gives trimesh only the files that lie in or below the mesh's folder."""
    from trimesh.resolvers import FilePathResolver

    class Neighbours(FilePathResolver):
        """Opens plain files in or below the folder only."""

        def get(self, name: str) -> bytes:
            folder = path.parent.resolve()
            file = (folder / name.strip()).resolve()
            if not file.is_relative_to(folder) or not file.is_file():
                raise FileNotFoundError(f"there is no file {name!r} next to it")
            if file.stat().st_size > LARGEST_FILE:
                raise ValueError(f"{name!r} is larger than {LARGEST_FILE} bytes")
            return file.read_bytes()

    return Neighbours(str(path))


@contextmanager
def _images_are_read(path: Path) -> Iterator[None]:
    """trimesh goes on without an image that it cannot read, and only logs the failure: one of
    hostile size becomes an error, any other a warning.
    """
    log, failures = logging.getLogger("trimesh"), _ImageFailures()
    level, propagate = log.level, log.propagate
    log.addHandler(failures)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(failures)
        log.setLevel(level)
        log.propagate = propagate
    for error in failures.errors:
        if isinstance(error, Image.DecompressionBombError):
            raise error
        logger.warning("%s: a texture is left out, its plain colour is used: %s", path, error)


class _ImageFailures(logging.Handler):
    def __init__(self):
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] and "load image" in record.getMessage():
            self.errors.append(record.exc_info[1])


def _floor_height(vertices: np.ndarray, faces: np.ndarray) -> float:
    """The lowest level with at least half as much area as the largest one.

    Only faces that point up count, so that a slab's floor is its top; all level faces if none does.
    """
    corners = vertices[faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    area = np.linalg.norm(normals, axis=1)
    level = np.abs(normals[:, 2]) > 0.95 * area
    if not level.any():
        return float(vertices[:, 2].min())
    looks_up = level & (normals[:, 2] > 0)
    level = looks_up if looks_up.any() else level
    heights = corners[:, :, 2].mean(axis=1)
    bins = np.floor((heights - heights.min()) / 0.05).astype(int)
    area_by_bin = np.bincount(bins[level], weights=area[level])
    lowest = int(np.argmax(area_by_bin >= area_by_bin.max() / 2))
    chosen = level & (bins == lowest)
    return float(np.average(heights[chosen], weights=area[chosen]))


def _as_object(
    name: str, vertices: np.ndarray, instance: int
) -> tuple[str, tuple[float, float], tuple[float, float, float], int] | None:
    """The object; None for the building, nodes without a name, and sizes unlike furniture."""
    words = re.sub(r"[^a-z]+", " ", name.rsplit(".", 1)[0].lower()).strip()
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    size = high - low
    furniture_sized = 0.2 <= size[2] <= 2.3 and 0.1 <= size[:2].max() <= 3.5 and low[2] < 0.3
    if _ANONYMOUS.match(words) or _BUILDING.search(words) or not furniture_sized:
        return None
    x, y = (low[:2] + high[:2]) / 2
    width, depth, height = (float(value) for value in size)
    return words, (float(x), float(y)), (width, depth, height), instance


def _face_colors(mesh: Any) -> np.ndarray:
    """(F, 3) uint8; for a textured face the mean colour of its corners (it shows the image)."""
    if mesh.visual.kind != "texture":
        return np.asarray(mesh.visual.face_colors)[:, :3].astype(np.uint8)
    if mesh.visual.uv is None or _image(mesh) is None:
        color = np.asarray(mesh.visual.material.main_color)[:3]
        return np.tile(color, (len(mesh.faces), 1)).astype(np.uint8)
    corners = np.asarray(mesh.visual.to_color().vertex_colors)[:, :3][mesh.faces]
    return corners.mean(axis=1).astype(np.uint8)


def _check_textures(meshes: list[Any]) -> None:
    sizes = [image.size for image in map(_image, meshes) if image is not None]
    of_one, of_all = MOST_TEXELS
    for width, height in sizes:
        if width * height > of_one:
            raise ValueError(f"a texture has {width}x{height} pixels, expected at most {of_one}")
    if (total := sum(width * height for width, height in sizes)) > of_all:
        raise ValueError(f"its textures have {total} pixels, expected at most {of_all}")


def _textures(meshes: list[Any]) -> MeshTextures | None:
    images: list[np.ndarray] = []
    face_texture, face_uv = [], []
    for mesh in meshes:
        image = _base_image(mesh)
        face_texture.append(np.full(len(mesh.faces), len(images) if image is not None else -1))
        if image is None:
            face_uv.append(np.zeros((len(mesh.faces), 3, 2), dtype=np.float32))
            continue
        images.append(image)
        face_uv.append(np.asarray(mesh.visual.uv, dtype=np.float32)[mesh.faces])
    if not images:
        return None
    return MeshTextures(images, np.concatenate(face_texture), np.concatenate(face_uv))


def _base_image(mesh: Any) -> np.ndarray | None:
    """(H, W, 3) image that the faces show; None if they are not textured."""
    image = None if mesh.visual.kind != "texture" or mesh.visual.uv is None else _image(mesh)
    return None if image is None else np.asarray(image.convert("RGB"))


def _image(mesh: Any) -> Image.Image | None:
    """The image of the mesh's material, of either of trimesh's two kinds; None without one."""
    from trimesh.visual.material import PBRMaterial, SimpleMaterial

    material = getattr(mesh.visual, "material", None)
    if isinstance(material, PBRMaterial):
        return material.baseColorTexture
    return material.image if isinstance(material, SimpleMaterial) else None
