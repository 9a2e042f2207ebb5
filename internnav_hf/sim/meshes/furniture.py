"""Furniture made of boxes and prisms, and the builder that collects triangles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (200, 36, 36),
    "green": (48, 150, 60),
    "blue": (40, 76, 204),
    "yellow": (236, 212, 48),
    "purple": (132, 56, 172),
    "orange": (242, 128, 28),
    "white": (246, 246, 246),
    "black": (28, 28, 32),
}
KINDS = ("box", "cabinet", "table", "barrel", "sofa", "chair", "bed")
Vector = Sequence[float] | np.ndarray

_BOX_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_BOX_QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_BOX_FACES = np.array([t for a, b, c, d in _BOX_QUADS for t in ((a, b, c), (a, c, d))])
_NUM_BARREL_SIDES = 12


class MeshBuilder:
    """Collects triangles, each with a colour and an instance id; id 0 is the building itself."""

    def __init__(self) -> None:
        self._vertices: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._colors: list[np.ndarray] = []
        self._instances: list[np.ndarray] = []
        self._num_vertices = 0

    def add(
        self, vertices: np.ndarray, faces: np.ndarray, color: Sequence[int], instance: int = 0
    ) -> None:
        """Add triangles `faces` (F, 3) over `vertices` (V, 3)."""
        self._vertices.append(np.asarray(vertices, dtype=np.float32))
        self._faces.append(np.asarray(faces, dtype=np.int32) + self._num_vertices)
        self._colors.append(np.tile(np.array(color, dtype=np.uint8), (len(faces), 1)))
        self._instances.append(np.full(len(faces), instance, dtype=np.int32))
        self._num_vertices += len(vertices)

    def add_rectangle(
        self, corner: Vector, edge: Vector, other_edge: Vector, color: Sequence[int]
    ) -> None:
        """Add the parallelogram that two edges span at a corner."""
        a, b, c = (np.asarray(value, dtype=np.float64) for value in (corner, edge, other_edge))
        faces = np.array([[0, 1, 2], [0, 2, 3]])
        self.add(np.stack([a, a + b, a + b + c, a + c]), faces, color)

    def add_box(self, center: np.ndarray, size: np.ndarray, color: Sequence[int]) -> None:
        """Add an axis-aligned box to the building."""
        self.add(_BOX_CORNERS * size + center, _BOX_FACES, color)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """vertices (V, 3), faces (F, 3), face colours (F, 3), face instances (F,)."""
        return (
            np.concatenate(self._vertices),
            np.concatenate(self._faces),
            np.concatenate(self._colors),
            np.concatenate(self._instances),
        )


@dataclass(frozen=True)
class Furniture:
    """Triangles of one piece, standing on the floor around the origin."""

    kind: str
    size: tuple[float, float, float]
    vertices: np.ndarray
    faces: np.ndarray


def make_furniture(kind: str, rng: np.random.Generator) -> Furniture:
    """A piece of `kind` (see `KINDS`) with random proportions."""
    smallest, largest = _SIZES[kind]
    width, depth, height = rng.uniform(smallest, largest)
    if kind == "barrel":
        depth = width
        vertices, faces = _prism(width / 2, height)
    else:
        vertices, faces = _boxes(_PARTS[kind](width, depth, height))
    return Furniture(kind, (float(width), float(depth), float(height)), vertices, faces)


_SIZES = {
    "box": ((0.45, 0.45, 0.4), (0.8, 0.8, 0.8)),
    "cabinet": ((0.7, 0.4, 1.0), (1.2, 0.55, 1.5)),
    "table": ((0.8, 0.7, 0.65), (1.4, 0.9, 0.8)),
    "barrel": ((0.5, 0.5, 0.7), (0.7, 0.7, 1.0)),
    "sofa": ((1.3, 0.75, 0.75), (1.8, 0.9, 0.9)),
    "chair": ((0.45, 0.45, 0.85), (0.55, 0.55, 1.0)),
    "bed": ((1.7, 1.1, 0.55), (2.0, 1.5, 0.8)),
}

# A part is (low corner, high corner) in metres.
_Part = tuple[tuple[float, float, float], tuple[float, float, float]]


def _solid(width: float, depth: float, height: float) -> list[_Part]:
    return [((-width / 2, -depth / 2, 0), (width / 2, depth / 2, height))]


def _legs(width: float, depth: float, height: float, leg: float) -> list[_Part]:
    corners = [(x, y) for x in (-width / 2, width / 2 - leg) for y in (-depth / 2, depth / 2 - leg)]
    return [((x, y, 0), (x + leg, y + leg, height)) for x, y in corners]


def _table(width: float, depth: float, height: float) -> list[_Part]:
    x, y = width / 2, depth / 2
    return [((-x, -y, height - 0.08), (x, y, height)), *_legs(width, depth, height - 0.08, 0.08)]


def _sofa(width: float, depth: float, height: float) -> list[_Part]:
    x, y = width / 2, depth / 2
    return [
        ((-x, -y, 0), (x, y, 0.4)),
        ((-x, -y, 0.4), (x, -y + 0.2, height)),
        ((-x, -y + 0.2, 0.4), (-x + 0.18, y, 0.58)),
        ((x - 0.18, -y + 0.2, 0.4), (x, y, 0.58)),
    ]


def _chair(width: float, depth: float, height: float) -> list[_Part]:
    x, y = width / 2, depth / 2
    return [
        ((-x, -y, 0.4), (x, y, 0.47)),
        ((-x, -y, 0.47), (x, -y + 0.06, height)),
        *_legs(width, depth, 0.4, 0.06),
    ]


def _bed(width: float, depth: float, height: float) -> list[_Part]:
    x, y = width / 2, depth / 2
    return [((-x, -y, 0), (x, y, 0.45)), ((-x, -y, 0.45), (-x + 0.12, y, height))]


_PARTS = {
    "box": _solid,
    "cabinet": _solid,
    "table": _table,
    "sofa": _sofa,
    "chair": _chair,
    "bed": _bed,
}


def _boxes(parts: list[_Part]) -> tuple[np.ndarray, np.ndarray]:
    lows, highs = (np.array(values) for values in zip(*parts, strict=True))
    centers, sizes = (lows + highs) / 2, highs - lows
    vertices = _BOX_CORNERS * sizes[:, None] + centers[:, None]
    faces = _BOX_FACES + 8 * np.arange(len(parts))[:, None, None]
    return vertices.reshape(-1, 3), faces.reshape(-1, 3)


def _prism(radius: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    angles = np.arange(_NUM_BARREL_SIDES) * (2 * np.pi / _NUM_BARREL_SIDES)
    ring = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    bottom = np.column_stack([ring, np.zeros(len(ring))])
    top = np.column_stack([ring, np.full(len(ring), height)])
    i = np.arange(_NUM_BARREL_SIDES)
    j, n = (i + 1) % _NUM_BARREL_SIDES, _NUM_BARREL_SIDES
    sides = [np.stack([i, j, j + n], axis=1), np.stack([i, j + n, i + n], axis=1)]
    lid = np.stack([np.full(n, 2 * n), i + n, j + n], axis=1)
    return np.concatenate([bottom, top, [[0, 0, height]]]), np.concatenate([*sides, lid])
