"""What an image file says of itself in its first bytes: its size, its mode, whether it is turned.

Every frame of an index is looked at, and no pixel is decoded. JPEG and PNG are read here, 4 µs a
file where Pillow needs 24; whatever else a file is, or says of its orientation, Pillow tells.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from .episode import broken
from .files import open_at_once, open_file, state_of

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # Pillow's others run programs, and more
MOST_PIXELS = 2**26  # a panorama of 8192 x 4096 has half as many; a small file may claim any number
FIRST_BYTES = 1024
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
PNG_MODES = {
    **dict.fromkeys([(0, 1), (0, 2), (0, 4), (0, 8)], "L"),
    (0, 16): "I;16",
    **dict.fromkeys([(2, 8), (2, 16)], "RGB"),
    **dict.fromkeys([(3, 1), (3, 2), (3, 4), (3, 8)], "P"),
    **dict.fromkeys([(4, 8), (4, 16)], "LA"),
    **dict.fromkeys([(6, 8), (6, 16)], "RGBA"),
}
JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
ALPHA_MODES = ("RGBA", "LA", "PA")
COLOR_MODES = ("RGB", "L", "1", "P", *ALPHA_MODES)
"""What becomes RGB without loss; of those with alpha and palettes, what is opaque."""
DEPTH_MODES = ("I;16", "I;16B", "I")
_FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_APP1, _SCAN = 0xE1, 0xDA
_PILLOW_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class ImageHeader(NamedTuple):
    """`width` and `height` as the image is shown, its EXIF orientation applied; `mode` in Pillow's
    words.
    """

    width: int
    height: int
    mode: str

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height


def read_header(path: str | Path) -> ImageHeader:
    """Of an image file; a ValueError that names it where it is none, or of an absurd size."""
    try:
        file = open_at_once(path, os.O_RDONLY)
        try:
            start = os.read(file, FIRST_BYTES)
        finally:
            os.close(file)
    except OSError:
        start = b""  # opened again, it tells why
    header = _png_header(start) or _jpeg_header(start) or _pillow_header(Path(path))
    check_size(path, header.size)
    return header


def check_size(path: str | Path, size: tuple[int, int]) -> None:
    """(width, height) in pixels that an image may have."""
    if size[0] * size[1] > MOST_PIXELS or 0 in size:
        found = f"{size[0]}x{size[1]} pixels"
        raise broken(path, "size", found, f"an image of at most {MOST_PIXELS} pixels")


def _png_header(start: bytes) -> ImageHeader | None:
    if start[:8] != b"\x89PNG\r\n\x1a\n" or start[12:16] != b"IHDR" or b"eXIf" in start:
        return None
    mode = PNG_MODES.get((start[25], start[24]))
    width, height = int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")
    return ImageHeader(width, height, mode) if mode else None


def _jpeg_header(start: bytes) -> ImageHeader | None:
    """None where the frame's marker is not among the first bytes, or EXIF comes before it."""
    if start[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    while at + 9 < len(start) and start[at] == 0xFF:
        marker = start[at + 1]
        if marker in _FRAME_MARKERS:
            mode = JPEG_MODES.get(start[at + 9])
            height = start[at + 5] << 8 | start[at + 6]
            width = start[at + 7] << 8 | start[at + 8]
            return ImageHeader(width, height, mode) if mode else None
        if marker in (_APP1, _SCAN):
            return None
        at += 2 + (start[at + 2] << 8 | start[at + 3])
    return None


@contextmanager
def opened_image(
    path: Path, field: str = "image", expected: str = "a whole image"
) -> Iterator[Image.Image]:
    """The head of an image file. What Pillow raises, here or in the body (where nothing else
    belongs), becomes an error that names the file.
    """
    size = None
    with open_file(path, expected) as stream:
        try:
            with Image.open(stream, formats=FORMATS) as image:
                size = image.size
                if size[0] * size[1] <= MOST_PIXELS:
                    yield image
        except UnidentifiedImageError as error:
            raise broken(path, field, f"{state_of(path)} that are no image", expected) from error
        except _PILLOW_ERRORS as error:
            raise broken(path, field, f"{state_of(path)} ({error})", expected) from error
    check_size(path, size)


def _pillow_header(path: Path) -> ImageHeader:
    with opened_image(path, "file", "an image") as image:
        width, height = image.size
        if image.getexif().get(ExifTags.Base.Orientation) in TURNED:
            width, height = height, width
        return ImageHeader(width, height, image.mode)
