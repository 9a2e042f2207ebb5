"""Floor plans as triangles: rectangular rooms that share walls and are joined by doors."""

from dataclasses import dataclass

import numpy as np

from internnav_hf.sim.meshes.furniture import MeshBuilder

WALL_THICKNESS_M = 0.12
DOOR_HEIGHT_M = 2.05
DOOR_FRAME_M = 0.1
DOOR_COLOR = (105, 70, 45)
CEILING_COLOR = (205, 205, 200)
WALL_COLORS = ((190, 178, 160), (160, 176, 190), (172, 188, 168), (190, 172, 178))
FLOOR_COLORS = ((146, 118, 94), (122, 122, 126), (138, 132, 116), (108, 96, 88))


@dataclass(frozen=True)
class Room:
    """The inner rectangle of a room, in metres."""

    index: int
    low: tuple[float, float]
    high: tuple[float, float]

    @property
    def area_m2(self) -> float:
        """Area of the floor."""
        return (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])

    def contains(self, xy: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """True for points (..., 2) inside, at least `margin` metres from the walls."""
        inside = (xy >= np.array(self.low) + margin) & (xy <= np.array(self.high) - margin)
        return np.asarray(inside.all(axis=-1))


@dataclass(frozen=True)
class Door:
    """An opening in the wall between two rooms; the wall is perpendicular to `axis` (0 x, 1 y)."""

    center: tuple[float, float]
    axis: int
    rooms: tuple[int, int]
    width: float


def plan_rooms(
    rng: np.random.Generator,
    num_rooms: int,
    room_size_m: tuple[float, float],
    door_width_m: float,
) -> tuple[list[Room], list[Door]]:
    """Rooms, each added to a free side of an earlier one, and their doors; fewer if none fits."""
    size = rng.uniform(*room_size_m, size=2)
    rooms, doors = [Room(0, (0.0, 0.0), (float(size[0]), float(size[1])))], []
    for _ in range(50 * num_rooms):
        if len(rooms) == num_rooms:
            break
        parent = rooms[int(rng.integers(len(rooms)))]
        candidate, door = _attach(rng, parent, len(rooms), room_size_m, door_width_m)
        if not any(_overlap(candidate, room) for room in rooms):
            rooms.append(candidate)
            doors.append(door)
    return rooms, doors


def _attach(
    rng: np.random.Generator,
    parent: Room,
    index: int,
    room_size_m: tuple[float, float],
    door_width_m: float,
) -> tuple[Room, Door]:
    axis, far_side = int(rng.integers(2)), bool(rng.integers(2))
    size, along = rng.uniform(*room_size_m, size=2), 1 - axis
    shared = door_width_m + 2 * DOOR_FRAME_M + 0.6  # length of wall that both rooms must have
    low, high = np.zeros(2), np.zeros(2)
    low[axis] = (
        parent.high[axis] + WALL_THICKNESS_M
        if far_side
        else parent.low[axis] - WALL_THICKNESS_M - size[axis]
    )
    low[along] = rng.uniform(parent.low[along] - size[along] + shared, parent.high[along] - shared)
    high[:] = low + size
    span = (max(low[along], parent.low[along]), min(high[along], parent.high[along]))
    center = np.zeros(2)
    center[axis] = (
        (parent.high[axis] + low[axis]) / 2 if far_side else (parent.low[axis] + high[axis]) / 2
    )
    center[along] = rng.uniform(span[0] + shared / 2, span[1] - shared / 2)
    room = Room(index, (float(low[0]), float(low[1])), (float(high[0]), float(high[1])))
    door = Door((float(center[0]), float(center[1])), axis, (parent.index, index), door_width_m)
    return room, door


def _overlap(first: Room, second: Room) -> bool:
    gap = WALL_THICKNESS_M - 1e-6
    return all(
        first.low[i] < second.high[i] + gap and second.low[i] < first.high[i] + gap
        for i in range(2)
    )


def build_structure(
    builder: MeshBuilder,
    rng: np.random.Generator,
    rooms: list[Room],
    doors: list[Door],
    wall_height_m: float,
) -> None:
    """Add floors, ceilings, walls with openings, and door frames."""
    for room in rooms:
        wall = _shade(rng, WALL_COLORS[int(rng.integers(len(WALL_COLORS)))])
        floor = _shade(rng, FLOOR_COLORS[int(rng.integers(len(FLOOR_COLORS)))])
        (x0, y0), (x1, y1) = room.low, room.high
        builder.add_rectangle((x0, y0, 0), (x1 - x0, 0, 0), (0, y1 - y0, 0), floor)
        builder.add_rectangle(
            (x0, y0, wall_height_m), (x1 - x0, 0, 0), (0, y1 - y0, 0), CEILING_COLOR
        )
        for axis in range(2):
            for position in (room.low[axis], room.high[axis]):
                openings = [
                    door
                    for door in doors
                    if room.index in door.rooms
                    and door.axis == axis
                    and abs(door.center[axis] - position) < WALL_THICKNESS_M
                ]
                _build_wall(builder, room, axis, position, openings, wall_height_m, wall)
    for door in doors:
        _build_door(builder, door)


def _shade(rng: np.random.Generator, color: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = np.clip(np.array(color) + rng.integers(-10, 11, size=3), 0, 255)
    return int(red), int(green), int(blue)


def _build_wall(
    builder: MeshBuilder,
    room: Room,
    axis: int,
    position: float,
    doors: list[Door],
    wall_height_m: float,
    color: tuple[int, int, int],
) -> None:
    """Add one side of a room, in pieces beside and above its doors."""
    along = 1 - axis
    start = room.low[along]

    def panel(begin: float, end: float, bottom: float) -> None:
        corner, edge = np.zeros(3), np.zeros(3)
        corner[axis], corner[along], corner[2] = position, begin, bottom
        edge[along] = end - begin
        builder.add_rectangle(corner, edge, (0, 0, wall_height_m - bottom), color)

    for door in sorted(doors, key=lambda door: door.center[along]):
        left = door.center[along] - door.width / 2
        right = door.center[along] + door.width / 2
        panel(start, left, 0.0)
        panel(left, right, DOOR_HEIGHT_M)
        start = right
    panel(start, room.high[along], 0.0)


def _build_door(builder: MeshBuilder, door: Door) -> None:
    """Add frame and threshold; the frame protrudes so that a door is visible from a distance."""
    along, depth = 1 - door.axis, WALL_THICKNESS_M + 0.06
    center, size = np.zeros(3), np.zeros(3)
    center[:2] = door.center
    size[door.axis], size[2] = depth, DOOR_HEIGHT_M + DOOR_FRAME_M
    size[along] = DOOR_FRAME_M
    for side in (-1, 1):
        post = center.copy()
        post[along] += side * (door.width + DOOR_FRAME_M) / 2
        post[2] = size[2] / 2
        builder.add_box(post, size, DOOR_COLOR)
    lintel_size = size.copy()
    lintel_size[along], lintel_size[2] = door.width, DOOR_FRAME_M
    center[2] = DOOR_HEIGHT_M + DOOR_FRAME_M / 2
    builder.add_box(center, lintel_size, DOOR_COLOR)
    corner, width, thickness = np.array([*door.center, 0.0]), np.zeros(3), np.zeros(3)
    corner[along] -= door.width / 2
    corner[door.axis] -= WALL_THICKNESS_M / 2
    width[along], thickness[door.axis] = door.width, WALL_THICKNESS_M
    builder.add_rectangle(corner, width, thickness, DOOR_COLOR)
