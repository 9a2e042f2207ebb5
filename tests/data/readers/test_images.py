import numpy as np
import pytest
from PIL import ExifTags, Image

from internnav_hf.data.readers.images import open_depth, open_image, upright_rgb


def test_a_turned_image_is_put_upright(tmp_path):
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(open_image(tmp_path / "a.png"))
    assert upright.shape == (20, 10, 3)
    np.testing.assert_array_equal(upright, np.rot90(pixels, -1))
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(upright_rgb(image)), upright)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA"])
def test_what_is_opaque_becomes_rgb(tmp_path, mode):
    rgb = Image.new("RGB", (4, 3), (102, 102, 102))
    rgb.convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png")), np.asarray(rgb))


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("a.png", Image.fromarray(np.full((3, 4), 9000, np.uint16)), "mode: found I;16, expected"),
        ("a.jpg", Image.new("CMYK", (4, 3)), "mode: found CMYK, expected"),
        ("a.png", Image.new("RGBA", (4, 3), (9, 9, 9, 128)), "alpha: found 128, expected no"),
    ],
)
def test_what_would_be_a_guess_is_refused(tmp_path, name, image, message):
    image.save(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: {message}"):
        open_image(tmp_path / name)


def test_depth_of_eight_bits_is_refused(tmp_path):
    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="mode: found L, expected 16-bit grey"):
        open_depth(tmp_path / "a.png")
