"""Checks of images that every format shares: size, mode, aspect, blank frames."""

from collections.abc import Sequence
from pathlib import Path

from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.image_headers import (
    ALPHA_MODES,
    COLOR_MODES,
    DEPTH_MODES,
    read_headers,
)
from internnav_hf.data.readers.images import open_image

ASPECT_TOLERANCE = 0.02
BLANK_BYTES_A_PIXEL = 0.02
MODES = {
    "rgb": (COLOR_MODES, "colours of 8 bits: RGB, or grey (L)"),
    "landmark": (COLOR_MODES, "8-bit grey (L)"),
    "depth": (DEPTH_MODES, "16-bit grey: depth"),
}


def check_images(
    paths: Sequence[str | Path], kind: str, size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Check that every file is an image of the kind ("rgb", "depth", "landmark") and of one size
    (width, height), by default the first one's; no pixel is decoded if there is no alpha.
    """
    modes, expected = MODES[kind]
    alpha = before = None
    for path, header in zip(paths, read_headers(paths), strict=True):
        if header is before:
            continue
        before = header
        size = header.size if size is None else size
        if header.mode not in modes:
            raise broken(path, "mode", header.mode, expected)
        if header.size != size:
            raise broken(path, "size", header.size, f"{size} as all images of the episode have")
        if alpha is None and header.mode in ALPHA_MODES:
            alpha = path
    if alpha is not None:
        open_image(Path(alpha))
    assert size is not None  # there is a path, or a size is given
    if kind == "depth" and paths:
        _refuse_blank(paths, size)
    return size


def _refuse_blank(paths: Sequence[str | Path], size: tuple[int, int]) -> None:
    """Refuse blank depth; blank images compress to few bytes, so only small files are decoded."""
    few = [Path(path) for path in (paths[0], paths[len(paths) // 2], paths[-1])]
    if any(path.stat().st_size > BLANK_BYTES_A_PIXEL * size[0] * size[1] for path in few):
        return
    values = {value for path in few for value in open_image(path, None).getextrema()}
    if len(values) == 1:
        raise broken(few[0], "depth", f"{values.pop()} everywhere in the episode", "depth")


def check_aspect(path: Path | str, depth: tuple[int, int], colors: tuple[int, int]) -> None:
    """Check sizes (width, height): depth may be smaller than colours, with the same aspect."""
    if abs(depth[0] * colors[1] / (depth[1] * colors[0]) - 1) > ASPECT_TOLERANCE:
        found = f"{depth[0]}x{depth[1]} of depth"
        raise broken(path, "size", found, f"the aspect of the colours, {colors[0]}x{colors[1]}")
