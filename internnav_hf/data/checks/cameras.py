"""Checks that a recorded camera can be the one of its images: pixels, metres, degrees."""

import math
from dataclasses import fields
from pathlib import Path

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.data.checks.depth import FloorView
from internnav_hf.data.episode import INFO_FILE, read_info
from internnav_hf.data.readers.errors import broken, shown

FIELDS = tuple(field.name for field in fields(CameraSpec))
HEIGHT_M = (0.02, 5.0)
HFOV_DEG = (5.0, 175.0)
OFF_CENTER = (0.12, 0.2)  # shares of width and height; images are cropped above and below
FOCAL = (0.2, 6.0)  # shares of the width
PIXEL_ASPECT = 1.6


def recorded_camera(scene: Path) -> CameraSpec | None:
    """Read the camera in `meta/info.json`, which our simulator writes and InternData-N1 lacks.
    Missing fields have `CameraSpec`'s defaults.
    """
    return CameraSpec.from_dict(camera) if (camera := recorded_values(scene)) else None


def recorded_values(scene: Path) -> dict[str, float]:
    """Return the checked camera fields of `meta/info.json`; empty if there are none."""
    path = scene / INFO_FILE
    camera = read_info(scene).get("camera")
    camera = {} if camera is None else camera
    try:
        if not isinstance(camera, dict):
            raise ValueError(f"{shown(camera)} is no object")
        values = {name: _number(camera[name]) for name in FIELDS if name in camera}
        CameraSpec.from_dict(values)
    except (ValueError, AttributeError, TypeError) as error:
        expected = "hfov_deg, and other fields of a CameraSpec"
        raise broken(path, "camera", f"something unreadable ({error})", expected) from error
    limits = {"hfov_deg": HFOV_DEG, "height_m": HEIGHT_M}
    for name, (low, high) in limits.items():
        if name in values and not low <= values[name] <= high:
            raise broken(path, f"camera.{name}", values[name], f"{low:g} to {high:g}")
    return values


def _number(value: object) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]} is no number")
    return value


def check_recorded_size(scene: Path, camera: dict[str, float], size: tuple[int, int]) -> None:
    """Check that images have the camera's (width, height)."""
    told = (camera.get("width", size[0]), camera.get("height", size[1]))
    if told != size:
        found = "{}x{}".format(*told)
        expected = "{}x{} as its images have".format(*size)
        raise broken(scene / INFO_FILE, "camera.width, camera.height", found, expected)


def check_intrinsics(
    focal: tuple[float, float],
    center: tuple[float, float],
    size: tuple[int, int],
    path: Path,
    field: str,
) -> None:
    """Check that (fx, fy) and (cx, cy), in pixels, fit images of `size` (width, height)."""
    off = [abs(c / s - 0.5) for c, s in zip(center, size, strict=True)]
    if not all(o <= limit for o, limit in zip(off, OFF_CENTER, strict=True)):
        found = "a centre of ({:.4g}, {:.4g}) px".format(*center)
        expected = "about ({:.4g}, {:.4g}), the middle of images of {}x{}".format(
            size[0] / 2, size[1] / 2, *size
        )
        scale = 2 * center[0] / size[0], 2 * center[1] / size[1]
        if abs(scale[0] / scale[1] - 1) < 0.1:
            expected += f"; these are of {2 * center[0]:.0f}x{2 * center[1]:.0f}"
        raise broken(path, field, found, expected)
    if not FOCAL[0] <= focal[0] / size[0] <= FOCAL[1]:
        expected = f"{FOCAL[0]:g} to {FOCAL[1]:g} times the width of {size[0]} px"
        raise broken(path, field, f"a focal length of {focal[0]:.4g} px", expected)
    if not 1 / PIXEL_ASPECT <= focal[0] / focal[1] <= PIXEL_ASPECT:
        found = "focal lengths of {:.4g} and {:.4g} px".format(*focal)
        raise broken(path, field, found, "much the same in both directions")


def check_height(height_m: float, path: Path, field: str) -> None:
    """Check a camera's height above the floor."""
    low, high = HEIGHT_M
    if not low <= height_m <= high:
        expected = f"{low:g} to {high:g} m; are these centimetres?"
        raise broken(path, field, f"a height of {height_m:.4g}", expected)


def floor_view(camera: CameraSpec) -> FloorView:
    """Return how a camera sees the floor in its ordinary view."""
    slope = camera.intrinsics[1, 1] / camera.height
    return FloorView(camera.height_m, float(np.radians(camera.pitch_deg)), float(slope), 0.5)
