"""Scenes of the simulator: generated rooms with named furniture, or a mesh file."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from internnav_hf.sim.meshes.furniture import COLORS, KINDS, Furniture, MeshBuilder, make_furniture
from internnav_hf.sim.meshes.layout import Door, Room, build_structure, plan_rooms
from internnav_hf.sim.meshes.mesh_files import MeshTextures, read_mesh_file

MOST_ROOMS = 50
_CROWDED_M = 0.05  # between pieces that stand close


@dataclass(frozen=True)
class SceneConfig:
    """How scenes are generated; each pair is the smallest and the largest value drawn."""

    num_rooms: tuple[int, int] = (2, 4)
    room_size_m: tuple[float, float] = (4.0, 6.5)
    num_objects: tuple[int, int] = (5, 8)
    """pieces in the whole scene; above 8, colours repeat, and only colour and kind are unique"""
    door_width_m: float = 1.1
    wall_height_m: float = 2.6
    object_spacing_m: float = 0.75
    """free space between two pieces, wide enough to walk through"""
    objects_per_m2: float | None = None
    """pieces per m² of floor, on average; replaces `num_objects`"""
    crowding: float = 0.0
    """share of the pieces that may stand close to others, which creates dead ends"""
    unique_names: bool = True
    """colour and kind together name one piece; False for clutter that no instruction mentions"""

    def __post_init__(self) -> None:
        for name in ("num_rooms", "room_size_m", "num_objects"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(
                    f"Scene field {name} needs two positive values in order; found {low}, {high}."
                )
        if self.num_rooms[1] > MOST_ROOMS:
            raise ValueError(
                f"Scene field num_rooms: found {self.num_rooms[1]}, expected at most {MOST_ROOMS}."
            )
        if self.unique_names and self.num_objects[1] > len(COLORS) * len(KINDS):
            raise ValueError(
                f"Scene field num_objects can be {len(COLORS) * len(KINDS)} at most, one for each "
                f"colour and kind; found {self.num_objects[1]}."
            )
        if self.objects_per_m2 is not None and (self.objects_per_m2 < 0 or self.unique_names):
            raise ValueError(
                "Scene field objects_per_m2 must not be negative, and needs unique_names=False; "
                f"found {self.objects_per_m2}, unique_names={self.unique_names}."
            )
        if not 0 <= self.crowding <= 1:
            raise ValueError(f"Scene field crowding is a share, 0 to 1; found {self.crowding}.")
        if self.room_size_m[0] < self.door_width_m + 1.2:
            raise ValueError(
                f"Scene field room_size_m must leave 1.2 m of wall beside a door of "
                f"{self.door_width_m} m; found {self.room_size_m[0]}."
            )


_CLUTTERED = SceneConfig(room_size_m=(6.0, 9.0), unique_names=False)
DENSITIES = {
    "easy": replace(_CLUTTERED, num_rooms=(1, 2), objects_per_m2=0.1, object_spacing_m=0.9),
    "medium": replace(_CLUTTERED, num_rooms=(1, 3), objects_per_m2=0.2, object_spacing_m=0.65),
    "hard": replace(
        _CLUTTERED, num_rooms=(1, 3), objects_per_m2=0.42, object_spacing_m=0.5, crowding=0.4
    ),
}
"""Cluttered rooms for visual navigation. Published counterparts: cluttered_easy, cluttered_hard,
which are larger (goals 10 to 30 m away)."""


def scene_config(density: str) -> SceneConfig:
    """One of `DENSITIES`, which datasets and benchmarks share; ValueError for another name."""
    if density not in DENSITIES:
        raise ValueError(f"There is no density {density!r}; known: {', '.join(DENSITIES)}.")
    return DENSITIES[density]


@dataclass(frozen=True)
class SceneObject:
    """A piece of furniture; its footprint is a rectangle of `size[:2]` turned by `yaw`."""

    name: str
    color: str
    kind: str
    position: tuple[float, float]
    size: tuple[float, float, float]
    yaw: float
    room: int
    instance_id: int

    def distance(self, xy: np.ndarray) -> np.ndarray:
        """Metres from points (..., 2) to the footprint; 0 inside."""
        cos_yaw, sin_yaw = np.cos(self.yaw), np.sin(self.yaw)
        R_world_object = np.array([[cos_yaw, -sin_yaw], [sin_yaw, cos_yaw]])
        half = np.array(self.size[:2]) / 2
        local = (np.asarray(xy) - np.array(self.position)) @ R_world_object
        nearest = np.clip(local, -half, half) @ R_world_object.T + np.array(self.position)
        return np.linalg.norm(np.asarray(xy) - nearest, axis=-1)


@dataclass
class Scene:
    """Triangles with colours and instance ids (0 is the building), the floor at z = 0."""

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    face_colors: np.ndarray
    face_instance: np.ndarray
    objects: list[SceneObject] = field(default_factory=list)
    rooms: list[Room] = field(default_factory=list)
    doors: list[Door] = field(default_factory=list)
    textures: MeshTextures | None = None
    light_direction: tuple[float, float, float] = (0.35, 0.2, 0.9)
    ambient: float = 0.55

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner (3,), in metres."""
        return self.vertices.min(axis=0), self.vertices.max(axis=0)

    def room_at(self, xy: tuple[float, float] | np.ndarray) -> int | None:
        """Index of the room around a point; None in a doorway or outside."""
        for room in self.rooms:
            if room.contains(np.asarray(xy)):
                return room.index
        return None


def generate_scene(seed: int, config: SceneConfig | None = None) -> Scene:
    """Rooms, doors and furniture; the same seed and config give the same scene."""
    config = config or SceneConfig()
    rng = np.random.default_rng(seed)
    num_rooms = int(rng.integers(config.num_rooms[0], config.num_rooms[1] + 1))
    rooms, doors = plan_rooms(rng, num_rooms, config.room_size_m, config.door_width_m)
    builder = MeshBuilder()
    build_structure(builder, rng, rooms, doors, config.wall_height_m)
    objects = _furnish(builder, rng, rooms, doors, config)
    angle = rng.uniform(0, 2 * np.pi)
    light = (float(0.4 * np.cos(angle)), float(0.4 * np.sin(angle)), 0.9)
    parts = (*builder.arrays(), objects, rooms, doors)
    ambient = float(rng.uniform(0.5, 0.65))
    return Scene(f"scene_{seed:06d}", *parts, light_direction=light, ambient=ambient)


def _furnish(
    builder: MeshBuilder,
    rng: np.random.Generator,
    rooms: list[Room],
    doors: list[Door],
    config: SceneConfig,
) -> list[SceneObject]:
    """Distribute the pieces over the rooms; a piece that fits nowhere is left out."""
    if config.objects_per_m2 is None:
        num_objects = int(rng.integers(config.num_objects[0], config.num_objects[1] + 1))
    else:
        num_objects = int(rng.poisson(config.objects_per_m2 * sum(room.area_m2 for room in rooms)))
    objects: list[SceneObject] = []
    names = _distinct_names if config.unique_names else _names
    for index, (color, kind) in enumerate(names(rng, num_objects)):
        room = rooms[index % len(rooms)]
        piece = make_furniture(kind, rng)
        crowded = config.crowding > 0 and rng.random() < config.crowding
        spacing_m = _CROWDED_M if crowded else config.object_spacing_m
        place = _find_place(rng, piece, room, doors, objects, spacing_m)
        if place is None:
            continue
        position, yaw = place
        thing = SceneObject(
            f"{color} {kind}", color, kind, position, piece.size, yaw, room.index, len(objects) + 1
        )
        objects.append(thing)
        shade = np.clip(np.array(COLORS[color]) + rng.integers(-9, 10, size=3), 0, 255)
        cos_yaw, sin_yaw = np.cos(yaw), np.sin(yaw)
        rotation = np.array([[cos_yaw, -sin_yaw, 0], [sin_yaw, cos_yaw, 0], [0, 0, 1]])
        vertices = piece.vertices @ rotation.T + np.array([*position, 0.0])
        builder.add(vertices, piece.faces, shade.tolist(), thing.instance_id)
    return objects


def _distinct_names(rng: np.random.Generator, num_objects: int) -> list[tuple[str, str]]:
    """Pairs of colour and kind; colours repeat only after all were used, pairs never repeat."""
    pairs: list[tuple[str, str]] = []
    colors: list[str] = []
    while len(pairs) < num_objects:
        if not colors:
            colors = [list(COLORS)[i] for i in rng.permutation(len(COLORS))]
        color = colors.pop()
        kinds = [kind for kind in KINDS if (color, kind) not in pairs]
        pairs.append((color, kinds[int(rng.integers(len(kinds)))]))
    return pairs


def _names(rng: np.random.Generator, num_objects: int) -> list[tuple[str, str]]:
    """Pairs of colour and kind, drawn independently."""
    colors = rng.choice(list(COLORS), num_objects).tolist()
    return list(zip(colors, rng.choice(KINDS, num_objects).tolist(), strict=True))


def _find_place(
    rng: np.random.Generator,
    piece: Furniture,
    room: Room,
    doors: list[Door],
    objects: list[SceneObject],
    spacing_m: float,
) -> tuple[tuple[float, float], float] | None:
    """Position and yaw inside the room, away from doors and other pieces; None if none is found."""
    radius = float(np.hypot(*piece.size[:2])) / 2
    for _ in range(40):
        yaw = float(rng.integers(4) * np.pi / 2 + rng.uniform(-0.15, 0.15))
        cos_yaw, sin_yaw = abs(np.cos(yaw)), abs(np.sin(yaw))
        half = np.array([[cos_yaw, sin_yaw], [sin_yaw, cos_yaw]]) @ np.array(piece.size[:2]) / 2
        low, high = np.array(room.low) + half + 0.05, np.array(room.high) - half - 0.05
        if (low > high).any():
            continue
        xy = rng.uniform(low, high)
        near_door = any(np.hypot(*(xy - door.center)) < radius + 0.9 for door in doors)
        near_object = any(
            _gap(xy, half, other) < spacing_m
            for other in objects
            if other.room == room.index
            # If even the circles around both are farther apart, `_gap` need not be computed.
            and np.hypot(xy[0] - other.position[0], xy[1] - other.position[1])
            < radius + np.hypot(*other.size[:2]) / 2 + spacing_m + 0.05
        )
        if not near_door and not near_object:
            return (float(xy[0]), float(xy[1])), yaw
    return None


def _gap(xy: np.ndarray, half: np.ndarray, other: SceneObject) -> float:
    """Metres between a box around `xy` and another piece's footprint, sampled on the box's edge."""
    corners = np.array([[x, y] for x in (-1, 0, 1) for y in (-1, 0, 1)]) * half + xy
    inside = (np.abs(np.array(other.position) - xy) <= half).all()
    return 0.0 if inside else float(other.distance(corners).min())


def load_scene(path: str | Path, up_axis: str = "auto") -> Scene:
    """A mesh file (GLB, PLY, OBJ, ...) in metres; textures, vertex and face colours are kept.

    `up_axis` is "y", "z" or "auto": y for GLB and glTF (their standard), z for the rest. The floor
    moves to z = 0. Nodes with a name and the size of furniture become objects for instructions.
    """
    mesh = read_mesh_file(Path(path), up_axis)
    objects = [
        SceneObject(name, "", name, position, size, 0.0, 0, instance)
        for name, position, size, instance in mesh.objects
    ]
    parts = (mesh.vertices, mesh.faces, mesh.face_colors, mesh.face_instance, objects)
    return Scene(Path(path).stem, *parts, textures=mesh.textures)
