"""Scenes whose geometry a test can compute by hand."""

import numpy as np

from internnav_hf.sim.meshes.furniture import MeshBuilder
from internnav_hf.sim.scenes import Scene

GREY = (128, 128, 128)


def hall(*boxes: tuple[tuple[float, ...], tuple[float, ...]], size: float = 6.0) -> Scene:
    """A square floor from (0, 0) with walls 2.5 m high, and boxes of (centre, size) on it.

    The n-th box has instance id n, from 1 on.
    """
    builder = MeshBuilder()
    builder.add_rectangle((0, 0, 0), (size, 0, 0), (0, size, 0), GREY)
    for corner, edge in (
        ((0, 0, 0), (size, 0, 0)),
        ((0, size, 0), (size, 0, 0)),
        ((0, 0, 0), (0, size, 0)),
        ((size, 0, 0), (0, size, 0)),
    ):
        builder.add_rectangle(corner, edge, (0, 0, 2.5), GREY)
    for center, box_size in boxes:
        builder.add_box(np.array(center), np.array(box_size), (200, 30, 30))
    vertices, faces, colors, instances = builder.arrays()
    for number in range(len(boxes)):
        start = len(faces) - 12 * (len(boxes) - number)
        instances[start : start + 12] = number + 1
    return Scene("hall", vertices, faces, colors, instances)
