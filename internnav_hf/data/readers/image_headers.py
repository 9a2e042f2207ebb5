"""Size, mode and orientation of an image file from its first bytes.

Every frame of an index is checked, and no pixel is decoded. JPEG and PNG are read here, 4 µs a
file instead of Pillow's 24; Pillow reads all other files, and those with an orientation.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from internnav_hf.data.readers.errors import PARSE_ERRORS, broken
from internnav_hf.data.readers.folders import AT_ONCE, open_file, state_of, unreadable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # Pillow's others run programs, and more
MOST_PIXELS = 2**26  # a panorama of 8192 x 4096 has half as many; a small file may claim any number
LONGEST_SIDE = 2**15 - 1
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
"""Modes that become RGB without loss; those with alpha and palettes if opaque."""
DEPTH_MODES = ("I;16", "I;16B", "I")
_PNG, _PNG_EXIF = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"eXIf"
_FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_APP1, _SCAN = 0xE1, 0xDA


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


def read_headers(paths: Sequence[str | Path]) -> Iterator[ImageHeader]:
    """Return the headers of image files, in order; ValueError names one that is no image, or of an
    absurd size. A file that begins as the one before, up to its size, gives the same object.
    """
    begin, header = None, ImageHeader(0, 0, "")
    expected = f"an image for each of {len(paths)} frames" if len(paths) > 1 else "an image"
    for path in paths:
        start = _first_bytes(path)
        if not (begin and start.startswith(begin) and start.find(_PNG_EXIF) < 0):
            begin = start[: _jpeg_frame(start) or _png_head(start)]
            known = _png_header(begin) if begin[:4] == _PNG[:4] else _jpeg_header(begin)
            begin = begin if known else None
            header = known or _pillow_header(Path(path), expected)
            check_size(path, header.size)
        yield header


def _first_bytes(path: str | Path) -> bytes:
    try:
        file = os.open(path, os.O_RDONLY | AT_ONCE)
        try:
            return os.read(file, FIRST_BYTES)
        finally:
            os.close(file)
    except OSError:
        return b""  # opening it again raises the error


def check_size(path: str | Path, size: tuple[int, int]) -> None:
    """(width, height) in pixels that an image may have."""
    if size[0] * size[1] > MOST_PIXELS or 0 in size or max(size) > LONGEST_SIDE:
        found = f"{size[0]}x{size[1]} pixels"
        expected = f"an image of at most {MOST_PIXELS} pixels, {LONGEST_SIDE} in a row"
        raise broken(path, "size", found, expected)


def _png_head(start: bytes) -> int:
    """Return the offset after size and mode; 0 if it is no PNG, or one with EXIF."""
    is_png = start.startswith(_PNG) and len(start) > 26
    return 26 if is_png and start.find(_PNG_EXIF) < 0 else 0


def _png_header(begin: bytes) -> ImageHeader | None:
    mode = PNG_MODES.get((begin[25], begin[24]))
    width, height = int.from_bytes(begin[16:20], "big"), int.from_bytes(begin[20:24], "big")
    return ImageHeader(width, height, mode) if mode else None


def _jpeg_frame(start: bytes) -> int:
    """Return the offset after the frame header; 0 if it is no JPEG, if EXIF comes before, or if the
    header is not among the first bytes.
    """
    at = 2 if start[:3] == b"\xff\xd8\xff" else len(start)
    while at + 9 < len(start) and start[at] == 0xFF:
        marker = start[at + 1]
        if marker in _FRAME_MARKERS:
            return at + 10
        if marker in (_APP1, _SCAN):
            return 0
        at += 2 + (start[at + 2] << 8 | start[at + 3])
    return 0


def _jpeg_header(begin: bytes) -> ImageHeader | None:
    """Parse bytes up to the frame header, which ends in height, width and number of channels."""
    if not (begin and (mode := JPEG_MODES.get(begin[-1]))):
        return None
    height, width = begin[-5] << 8 | begin[-4], begin[-3] << 8 | begin[-2]
    return ImageHeader(width, height, mode)


@contextmanager
def opened_image(
    path: Path, field: str = "image", expected: str = "a whole image"
) -> Iterator[Image.Image]:
    """Open an image file and read its header. Errors of Pillow, here or in the body (which must do
    nothing else), become an error that names the file.
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
        except (*PARSE_ERRORS, Image.DecompressionBombError) as error:
            raise unreadable(path, error, expected, field) from error
    check_size(path, size)


def _pillow_header(path: Path, expected: str) -> ImageHeader:
    with opened_image(path, "file", expected) as image:
        width, height = image.size
        if image.getexif().get(ExifTags.Base.Orientation) in TURNED:
            width, height = height, width
        return ImageHeader(width, height, image.mode)
