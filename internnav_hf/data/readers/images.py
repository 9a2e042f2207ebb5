"""Image files to PIL images: decoding that never fills in pixels, and the published
augmentation.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageEnhance, ImageFile, ImageOps

from internnav_hf.camera import resize_view
from internnav_hf.data.readers.errors import PARSE_ERRORS, broken
from internnav_hf.data.readers.folders import unreadable
from internnav_hf.data.readers.image_headers import ALPHA_MODES, COLOR_MODES, opened_image

JITTER = 0.2  # brightness and saturation are scaled by 1 - JITTER .. 1 + JITTER
POSTERIZE_BITS = 4
SHARPNESS = 1.5
OPAQUE = 255


def open_image(path: Path, mode: str | None = "RGB") -> Image.Image:
    """Decode the whole file now, upright; a truncated one is an error that names it. Mode None: as
    it is.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, and would turn broken files grey;"
            " set it to False"
        )
    with opened_image(path) as image:
        image.load()
    if mode == "RGB":
        try:
            return upright_rgb(image)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    image = _upright(image)
    return image if mode in (image.mode, None) else image.convert(mode)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return RGB, turned by its EXIF orientation: the one conversion for files and for images given
    to a policy. ValueError if RGB would be a guess.
    """
    image, mode = _upright(image), image.mode
    if mode == "RGB":
        return image
    if mode not in COLOR_MODES:
        raise ValueError(f"mode: found {mode}, expected colours of 8 bits: RGB, or grey (L)")
    if mode in ALPHA_MODES or "transparency" in image.info:
        lowest: Any = image.convert("RGBA").getchannel("A").getextrema()[0]
        if lowest < OPAQUE:
            raise ValueError(f"alpha: found {lowest}, expected no transparent pixel ({OPAQUE})")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if is_turned else image


def open_depth(
    path: Path, size: tuple[int, int] | None = None, scale: float = 1000, dtype: type = np.float32
) -> np.ndarray:
    """Read (rows, columns) metres from a 16-bit image of `scale` units a metre; 0 is unknown.

    `size` (width, height) picks the nearest pixels and blends none.
    """
    image = _depth_image(path, scale)
    if size is not None:
        image = resize_view(image, size, Image.Resampling.NEAREST)
    return np.asarray(image, dtype) / dtype(scale)


def open_depth_units(path: Path, scale: float) -> np.ndarray:
    """Read (rows, columns) whole numbers from a 16-bit image of `scale` units a metre."""
    return np.asarray(_depth_image(path, scale))


def _depth_image(path: Path, scale: float) -> Image.Image:
    image = open_image(path, None)
    if not image.mode.startswith("I"):
        raise broken(path, "mode", image.mode, f"16-bit grey: depth, {scale:g} units a metre")
    return image


def open_array(path: Path) -> np.ndarray:
    """Map an array file into memory; an archive or a pickle is no array, whatever its name."""
    try:
        return np.lib.format.open_memmap(str(path), mode="r")  # a Path would be resolved
    except PARSE_ERRORS as error:
        raise unreadable(path, error, "an array of numbers") from error


def open_mask(path: Path) -> np.ndarray:
    """Read (rows, columns) float32 in [0, 1] from an 8-bit grey image."""
    return np.asarray(open_image(path, "L"), dtype=np.float32) / 255


def augment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Apply colour jitter always; posterise, sharpen and autocontrast each half of the time, in
    this order.
    """
    enhancers = [ImageEnhance.Brightness, ImageEnhance.Color]
    for position in rng.permutation(len(enhancers)):
        image = enhancers[position](image).enhance(rng.uniform(1 - JITTER, 1 + JITTER))
    if rng.random() < 0.5:
        image = ImageOps.posterize(image, POSTERIZE_BITS)
    if rng.random() < 0.5:
        image = ImageEnhance.Sharpness(image).enhance(SHARPNESS)
    if rng.random() < 0.5:
        image = ImageOps.autocontrast(image)
    return image
