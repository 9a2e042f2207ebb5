"""Damage of the planners' images in training, published for ViPlanner, where it is off by default.

Depth: pixels of the nearest and farthest value, gaussian noise, triangles of one depth, blurred
edges. Classes: black pixels, black images, black triangles. How strong each is was not published.

Legend: H and W rows and columns of the model's images.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, sobel
from torch import Tensor

NUM_CORNERS = 3
EDGE_M = 0.5  # a step of depth from one pixel to the next that is an edge
EDGE_SMOOTHING = 1.5  # pixels


@dataclass(frozen=True)
class ImageNoise:
    """What is done to images; the defaults do nothing.

    Fields:
        depth_pixels: share of pixels that become the nearest or the farthest of the image.
        depth_deviation_m: of gaussian noise on known depth.
        depth_polygons, depth_polygon_size: how many triangles, and how many pixels wide.
        depth_edges: whether edges are blurred.
        semantic_pixels: share of pixels that become black, the unknown class.
        black_share: share of semantic images that are black.
        semantic_polygons, semantic_polygon_size: as for depth, black.
    """

    depth_pixels: float = 0.0
    depth_deviation_m: float = 0.0
    depth_polygons: int = 0
    depth_polygon_size: int = 10
    depth_edges: bool = False
    semantic_pixels: float = 0.0
    black_share: float = 0.0
    semantic_polygons: int = 0
    semantic_polygon_size: int = 20

    def __post_init__(self):
        for name, value in vars(self).items():
            is_share = name.endswith(("_pixels", "_share"))
            expected = "a share, 0 to 1" if is_share else "a number, at least 0"
            is_number = isinstance(value, int | float)
            if not is_number or not 0 <= value <= (1 if is_share else np.inf):
                raise ValueError(f"{name}: found {value!r}, expected {expected}.")

    def check_seen(self, second_image: str | None) -> None:
        """Raise ValueError for damage of images of classes where there are none."""
        for name in ("semantic_pixels", "black_share", "semantic_polygons"):
            if second_image != "semantics" and getattr(self, name):
                found = f"noise: {name}: found {getattr(self, name)}"
                raise ValueError(f"{found}, expected 0: the second image is {second_image}")

    def depth(self, view: Tensor, rng: np.random.Generator) -> Tensor:
        """(H, W) metres for a view (H, W) metres, 0 where unknown."""
        depth = view.numpy().copy()
        known = depth[depth > 0]
        if not len(known):
            return view
        low, high = float(known.min()), float(known.max())
        if self.depth_edges:
            steps = np.hypot(sobel(depth, 0), sobel(depth, 1)) / 4
            smooth = gaussian_filter(depth, EDGE_SMOOTHING)
            depth = np.where((steps > EDGE_M) & (depth > 0), smooth, depth)
        if self.depth_deviation_m:
            noisy = depth + rng.normal(0, self.depth_deviation_m, depth.shape)
            depth = np.where(depth > 0, noisy.clip(low, high), 0)
        if self.depth_pixels:
            hit = rng.random(depth.shape) < self.depth_pixels
            depth = np.where(hit, np.where(rng.random(depth.shape) < 0.5, low, high), depth)
        for _ in range(self.depth_polygons):
            covered = _triangle(depth.shape, self.depth_polygon_size, rng)
            depth = np.where(covered, rng.uniform(low, high), depth)
        return torch.from_numpy(depth.astype(np.float32))

    def semantics(self, view: Tensor, rng: np.random.Generator) -> Tensor:
        """(3, H, W) bytes for a view (3, H, W)."""
        if rng.random() < self.black_share:
            return torch.zeros_like(view)
        size = (view.shape[1], view.shape[2])
        hit = rng.random(size) < self.semantic_pixels
        for _ in range(self.semantic_polygons):
            hit |= _triangle(size, self.semantic_polygon_size, rng)
        return view.masked_fill(torch.from_numpy(hit), 0)


def _triangle(shape: tuple[int, ...], size: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) whether a pixel lies in a random triangle within a square of `size` pixels."""
    image = Image.new("1", (shape[1], shape[0]))
    corner = rng.uniform(0, (shape[1], shape[0])) - size / 2
    points = corner + rng.uniform(0, size, (NUM_CORNERS, 2))
    ImageDraw.Draw(image).polygon([tuple(point) for point in points.tolist()], fill=1)
    return np.array(image)
