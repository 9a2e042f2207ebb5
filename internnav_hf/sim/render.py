"""RGB-D and instance images: one ray per pixel, cast with embree, called directly.

Rays have length 1 along the optical axis, so the distance that embree returns is the depth itself.
Shading is flat: one brightness per face, the same on both sides.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.sim.scenes import Scene

BACKGROUND = (200, 215, 230)


@dataclass(frozen=True)
class Rendering:
    """rgb (H, W, 3) uint8, depth (H, W) float32 in metres (0: no surface), instances (H, W)."""

    rgb: np.ndarray
    depth: np.ndarray
    instances: np.ndarray


class Renderer:
    """Renders one scene, whose ray-casting structure it keeps."""

    def __init__(self, scene: Scene) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = scene
        self._embree = EmbreeScene()
        vertices = np.ascontiguousarray(scene.vertices, dtype=np.float32)
        faces = np.ascontiguousarray(scene.faces, dtype=np.int32)
        self._mesh = TriangleMesh(self._embree, vertices, faces)
        self._brightness = _face_brightness(scene)
        shaded = scene.face_colors * self._brightness[:, None]
        # One row more than there are faces, so that -1 (no hit) is the background.
        self._colors = np.concatenate([shaded, [BACKGROUND]]).clip(0, 255).astype(np.uint8)
        self._instances = np.append(scene.face_instance, 0).astype(np.int32)

    def render(self, T_world_camera: np.ndarray, camera: CameraSpec) -> Rendering:
        """The image from one pose; `camera` gives its size and field of view only."""
        rays = camera_rays(camera.width, camera.height, camera.hfov_deg)
        directions = rays @ T_world_camera[:3, :3].T.astype(np.float32)
        rgb, depth, instances = self.cast(T_world_camera[:3, 3], directions)
        shape = (camera.height, camera.width)
        return Rendering(rgb.reshape(*shape, 3), depth.reshape(shape), instances.reshape(shape))

    def cast(
        self, origins: np.ndarray, directions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colours (N, 3), distances in units of the direction's length (N,), instances (N,)."""
        starts = np.empty_like(directions)
        starts[:] = origins
        hits = self._embree.run(starts, directions, output=1)
        face = hits["primID"]
        colors = self._colors[face]
        if self._scene.textures is not None:
            self._paint(colors, face, hits["u"], hits["v"])
        return colors, np.where(face >= 0, hits["tfar"], np.float32(0)), self._instances[face]

    def _paint(self, colors: np.ndarray, face: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
        """Overwrite the colours of textured faces; u, v are barycentric coordinates of the hits."""
        textures = self._scene.textures
        assert textures is not None
        texture_of_hit = np.where(face >= 0, textures.face_texture[face], -1)
        for index, image in enumerate(textures.images):
            chosen = np.flatnonzero(texture_of_hit == index)
            if not len(chosen):
                continue
            a, b, c = textures.face_uv[face[chosen]].transpose(1, 0, 2)
            weight_b, weight_c = u[chosen, None], v[chosen, None]
            place = (a + (b - a) * weight_b + (c - a) * weight_c) % 1.0
            column = (place[:, 0] * image.shape[1]).astype(np.int32).clip(0, image.shape[1] - 1)
            row = ((1 - place[:, 1]) * image.shape[0]).astype(np.int32).clip(0, image.shape[0] - 1)
            shaded = image[row, column] * self._brightness[face[chosen], None]
            colors[chosen] = shaded.clip(0, 255)


@lru_cache(maxsize=8)
def camera_rays(width: int, height: int, hfov_deg: float) -> np.ndarray:
    """Directions (H * W, 3) in the camera frame, z = 1, through pixel centres."""
    intrinsics = CameraSpec(width=width, height=height, hfov_deg=hfov_deg).intrinsics
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([u.ravel(), v.ravel(), np.ones(width * height)], axis=1)
    return (pixels @ np.linalg.inv(intrinsics).T).astype(np.float32)


def _face_brightness(scene: Scene) -> np.ndarray:
    """(F,) from ambient and directional light; two-sided, as faces may point either way."""
    corners = scene.vertices[scene.faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals /= np.maximum(length, 1e-12)
    light = np.array(scene.light_direction) / np.linalg.norm(scene.light_direction)
    return scene.ambient + (1.05 - scene.ambient) * np.abs(normals @ light)


MOST_PLAN_PIXELS = 2**24


def top_down(
    scene: Scene, pixels_per_metre: float = 40.0, height_m: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """A floor plan, seen from `height_m`: rgb (H, W, 3), north (+y) up, and T_pixel_world (2, 3).

    `T_pixel_world @ (x, y, 1)` is the pixel (u, v) of a point. A large scene gets fewer pixels per
    metre, so that there are at most `MOST_PLAN_PIXELS`.
    """
    low, high = scene.bounds
    low, high = low[:2] - 0.3, high[:2] + 0.3
    most = np.sqrt(MOST_PLAN_PIXELS / np.prod((high - low).astype(np.float64)))
    pixels_per_metre = min(pixels_per_metre, float(most))
    width, height = (int(value) for value in np.ceil((high - low) * pixels_per_metre))
    x = low[0] + (np.arange(width) + 0.5) / pixels_per_metre
    y = high[1] - (np.arange(height) + 0.5) / pixels_per_metre
    grid_x, grid_y = np.meshgrid(x, y)
    origins = np.stack([grid_x.ravel(), grid_y.ravel(), np.full(grid_x.size, height_m)], axis=1)
    directions = np.tile(np.array([0, 0, -1], dtype=np.float32), (len(origins), 1))
    colors, depth, _ = Renderer(scene).cast(origins.astype(np.float32), directions)
    colors[depth == 0] = 60  # walls have no top here: the gaps between rooms
    scale = pixels_per_metre
    T_pixel_world = np.array([[scale, 0, -low[0] * scale], [0, -scale, high[1] * scale]])
    return colors.reshape(height, width, 3), T_pixel_world
