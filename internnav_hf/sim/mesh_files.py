"""Mesh files by trimesh: triangles, colours, textures, and the nodes that look like furniture."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_BUILDING = re.compile(r"wall|floor|ceiling|roof|ground|door|window|room|house|building|stair")
_ANONYMOUS = re.compile(
    r"^(geometry|mesh|object|node|primitive|default|world|scene|group|material|untitled|model)?$"
)


@dataclass(frozen=True)
class MeshTextures:
    """Images, which one a face shows (-1: none, its colour counts), and its corners' places in it.

    `face_uv` (F, 3, 2) in [0, 1], v upwards, repeating outside.
    """

    images: list[np.ndarray]
    face_texture: np.ndarray
    face_uv: np.ndarray


@dataclass(frozen=True)
class MeshFile:
    """`objects`: (name, (x, y) of the centre, size, instance id)."""

    vertices: np.ndarray
    faces: np.ndarray
    face_colors: np.ndarray
    face_instance: np.ndarray
    objects: list[tuple[str, tuple[float, float], tuple[float, float, float], int]]
    textures: MeshTextures | None


def read_mesh_file(path: Path, up_axis: str = "auto") -> MeshFile:
    """z-up, the floor at z = 0; a ValueError names a file that is missing, unreadable or empty."""
    if up_axis not in ("auto", "y", "z"):
        raise ValueError(f"up_axis must be auto, y or z; found {up_axis!r}.")
    parts = _load_parts(path)
    y_up = up_axis == "y" or (up_axis == "auto" and path.suffix.lower() in (".glb", ".gltf"))
    vertices = [_to_z_up(mesh.vertices) if y_up else mesh.vertices for _, mesh in parts]
    starts = np.cumsum([0, *[len(part) for part in vertices]])
    faces = [mesh.faces + start for (_, mesh), start in zip(parts, starts, strict=False)]
    stacked = np.concatenate(vertices).astype(np.float32)
    all_faces = np.concatenate(faces).astype(np.int32)
    if not np.isfinite(stacked).all():
        raise ValueError(f"{path} has vertices that are not finite numbers.")
    stacked[:, 2] -= _floor_height(stacked, all_faces)
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


def _load_parts(path: Path) -> list[tuple[str, Any]]:
    """(node name, mesh in world coordinates) in name order."""
    import trimesh

    if not path.is_file():
        raise ValueError(f"There is no mesh file {path}.")
    if path.suffix.lower().lstrip(".") not in trimesh.available_formats():
        raise ValueError(
            f"{path} has no mesh format that trimesh reads; use one of "
            f"{', '.join(sorted(trimesh.available_formats()))}."
        )
    try:
        loaded = trimesh.load_scene(path)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a mesh: {error}") from error
    parts = []
    for node in sorted(loaded.graph.nodes_geometry):
        transform, geometry = loaded.graph[node]
        mesh = loaded.geometry[geometry]
        if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces):
            parts.append((str(node), mesh.copy().apply_transform(transform)))
    if not parts:
        raise ValueError(f"{path} holds no triangles.")
    return parts


def _to_z_up(vertices: np.ndarray) -> np.ndarray:
    return np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], axis=1)


def _floor_height(vertices: np.ndarray, faces: np.ndarray) -> float:
    """The lowest level with at least half as much area as the largest one.

    Faces that look up count, so that a slab's floor is its top; all level ones if none looks up.
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
    """None for the building, for nodes without a name, and for sizes no piece of furniture has."""
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
    """(F, 3) uint8; of a texture, its colour at the corners: such faces show the image itself."""
    if mesh.visual.kind != "texture":
        return np.asarray(mesh.visual.face_colors)[:, :3].astype(np.uint8)
    corners = np.asarray(mesh.visual.to_color().vertex_colors)[:, :3][mesh.faces]
    return corners.mean(axis=1).astype(np.uint8)


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
    """(H, W, 3) of a material's colour image, whichever of the two kinds trimesh made."""
    from trimesh.visual.material import PBRMaterial, SimpleMaterial

    material = getattr(mesh.visual, "material", None)
    if mesh.visual.kind != "texture" or mesh.visual.uv is None:
        return None
    image = None
    if isinstance(material, PBRMaterial):
        image = material.baseColorTexture
    elif isinstance(material, SimpleMaterial):
        image = material.image
    return None if image is None else np.asarray(image.convert("RGB"))
