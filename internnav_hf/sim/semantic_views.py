"""ViPlanner's semantic images of generated scenes, whose geometry and objects are known exactly.

floor      the room's surfaces at height 0
wall       its other surfaces
furniture  objects
sky        where there is no surface
"""

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.models.planners.semantics import class_named
from internnav_hf.sim.navigation import FLOOR_TOLERANCE_M
from internnav_hf.sim.render import Rendering, camera_rays

_COLOURS = np.array(
    [class_named(name).colour for name in ("floor", "wall", "furniture", "sky")], np.uint8
)


def class_colours_of(view: Rendering, T_world_camera: np.ndarray, camera: CameraSpec) -> np.ndarray:
    """(H, W, 3) uint8 colours of the classes in a `view` of `camera`."""
    upward = camera_rays(camera.width, camera.height, camera.hfov_deg) @ T_world_camera[2, :3]
    height = T_world_camera[2, 3] + upward.reshape(view.depth.shape) * view.depth
    number = np.where(np.abs(height) <= FLOOR_TOLERANCE_M, 0, 1)
    number[view.instances > 0] = 2
    number[view.depth == 0] = 3
    return _COLOURS[number]
