"""Comparison of a policy's inputs with the cameras that its model was trained with.

Each difference is reported once, by a warning; `strict` makes it a ValueError, before anything is
done. The size of a view is always known. The field of view, the height and the pitch are compared
if the robot's camera is given. Suspicious inputs (depth that seems to be a fraction, a yaw of 90)
are reported once, too.
"""

import logging
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from internnav_hf.camera import CameraSpec, difference_from_all
from internnav_hf.policies.observations import (
    Frame,
    depth_doubts,
    farthest_depth,
    picture_doubts,
    pose_doubts,
    size_of,
)

logger = logging.getLogger(__name__)

UNKNOWN = "the model does not say which camera it was trained with; yours is not compared."
TWO_VIEWS = ("depth_scale",)
NUM_NEAR_VIEWS = 20  # a robot in front of a wall sees nothing farther than a metre, for a while
ONE_VIEW = ("look_down_pitch_deg", "depth_scale")  # depth comes in metres


class CameraContract:
    """`trained` are the cameras of the training, none if it is not known; `camera` is the robot's.
    `ignored` fields are not compared. `policy` is its name in messages.
    """

    def __init__(
        self,
        policy: str,
        trained: Sequence[CameraSpec],
        camera: CameraSpec | None = None,
        strict: bool = False,
        ignored: Collection[str] = ONE_VIEW,
    ):
        self.policy, self.trained, self.camera, self.strict = policy, trained, camera, strict
        self._told: set[str] = set()
        self._near_views = 0
        self._shows_metres = False
        self._sizes: set[tuple[str, tuple[int, int]]] = set()
        if camera is not None and not isinstance(camera, CameraSpec):
            raise ValueError(
                f"{policy}: camera: found a {type(camera).__name__}, expected a CameraSpec: "
                "CameraSpec(width=640, height=480, hfov_deg=79, height_m=0.6, ...)."
            )
        if not isinstance(strict, bool | np.bool_):
            raise ValueError(f"{policy}: strict_camera: found {strict!r}, expected True or False.")
        if strict and not trained:
            raise ValueError(
                f"{policy}: strict_camera: the model does not say which camera it was trained with."
            )
        difference = None if camera is None else difference_from_all(trained, camera, ignored)
        if difference is not None:
            self._differs(f"camera: {difference}")

    def check_views(self, views: Iterable[tuple[str, Frame]]) -> None:
        """Check the current views, each with its key: the size, and suspicious values."""
        if not self.trained:
            self.tell_once("unknown", UNKNOWN)
        for key, frame in views:
            size = size_of(frame)
            if (key, size) not in self._sizes:
                self._check_size(key, size)
                self._sizes.add((key, size))
            for kind, told in picture_doubts(frame):
                self.tell_once(f"{key} {kind}", f"{key}: {told}")

    def check_depth(self, key: str, depth: np.ndarray) -> None:
        """Report suspicious values of `depth`, and if no view ever shows more than a metre."""
        for kind, told in depth_doubts(depth):
            self.tell_once(f"{key} {kind}", f"{key}: {told}")
        farthest = farthest_depth(depth)
        self._shows_metres |= farthest > 1
        self._near_views += farthest > 0
        if self._near_views >= NUM_NEAR_VIEWS and not self._shows_metres:
            found = f"found nothing farther than 1 in {NUM_NEAR_VIEWS} views, expected metres"
            told = f"{found}: is it a share of the largest depth? Then multiply by that."
            self.tell_once("share", f"{key}: {told}")

    def check_pose(self, pose: np.ndarray, before: np.ndarray | None) -> None:
        """Report suspicious values of `pose`, which follows the pose `before`."""
        for kind, told in pose_doubts(pose, before):
            self.tell_once(kind, f"pose: {told}")

    def tell_once(self, kind: str, told: str) -> None:
        """Warn of `told`, once for each `kind`."""
        if kind not in self._told:
            self._told.add(kind)
            logger.warning("%s: %s", self.policy, told)

    def _check_size(self, key: str, size: tuple[int, int]) -> None:
        known = {(camera.width, camera.height) for camera in self.trained}
        if known and size not in known:
            self._differs(f"{key}: found {_pixels(size)}, trained with {_nearest(size, known)}")
        camera = self.camera
        if camera is not None and size != (camera.width, camera.height):
            self._differs(
                f"{key}: found {_pixels(size)}, the camera that was told has "
                f"{_pixels((camera.width, camera.height))}"
            )

    def _differs(self, told: str) -> None:
        if self.strict:
            raise ValueError(f"{self.policy}: strict_camera: {told}.")
        self.tell_once(told, f"{told}.")


def _nearest(size: tuple[int, int], known: Collection[tuple[int, int]]) -> str:
    """For messages: the known size closest to `size` in aspect ratio, and whether these agree."""
    shape = np.log(size[0] / size[1])
    nearest = min(sorted(known), key=lambda other: abs(np.log(other[0] / other[1]) - shape))
    is_same = abs(np.log(nearest[0] / nearest[1]) - shape) < 0.02
    return f"{_pixels(nearest)}, {'the same shape' if is_same else 'another shape'}"


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} pixels"
