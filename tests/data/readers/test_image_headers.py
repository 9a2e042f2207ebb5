import os

import numpy as np
import pytest
from PIL import ExifTags, Image

from internnav_hf.data.readers.image_headers import read_headers


def saved(path, mode="RGB", size=(20, 10), **options):
    image = Image.new(mode, size)
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("a.jpg", "RGB", "RGB"),
        ("a.jpg", "L", "L"),
        ("a.jpg", "CMYK", "CMYK"),
        ("a.png", "RGB", "RGB"),
        ("a.png", "L", "L"),
        ("a.png", "LA", "LA"),
        ("a.png", "RGBA", "RGBA"),
        ("a.png", "P", "P"),
        ("a.png", "I;16", "I;16"),
        ("a.bmp", "RGB", "RGB"),
    ],
)
def test_size_and_mode_are_read_as_pillow_reads_them(tmp_path, name, mode, expected):
    header = next(read_headers([saved(tmp_path / name, mode)]))
    assert (header.size, header.mode) == ((20, 10), expected)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_of_all_kinds(tmp_path, progressive):
    noise = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    for subsampling in (0, 2):
        path = tmp_path / "a.jpg"
        options = {"progressive": progressive, "subsampling": subsampling, "comment": b"x" * 3000}
        Image.fromarray(noise).save(path, **options)
        assert next(read_headers([path])).size == (51, 37)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (20, 10)), (3, (20, 10)), (6, (10, 20))])
def test_a_turned_image_has_the_size_that_is_shown(tmp_path, name, orientation, size):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert next(read_headers([saved(tmp_path / name, exif=exif)])).size == size


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.jpg: file: found {len(content)} bytes that are no"):
        next(read_headers([path]))


def test_a_missing_file_and_links_in_a_circle_are_named(tmp_path):
    (tmp_path / "b.jpg").symlink_to(tmp_path / "b.jpg")
    os.mkfifo(tmp_path / "c.jpg")
    for name, found in {"a": "no file", "b": "a link that leads in a", "c": "a pipe"}.items():
        with pytest.raises(ValueError, match=rf"{name}.jpg: file: found {found}"):
            next(read_headers([tmp_path / f"{name}.jpg"]))


def test_an_absurd_size_is_refused(tmp_path):
    path = saved(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    path.write_bytes(content)
    with pytest.raises(ValueError, match="size: found 100000x100000 pixels"):
        next(read_headers([path]))


def test_files_that_begin_alike_are_told_apart(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    given = {"a.jpg": {}, "b.jpg": {}, "c.jpg": {"exif": exif}, "d.png": {}, "e.png": {}}
    given |= {"f.png": {"exif": exif}, "g.png": {}}
    paths = [saved(tmp_path / name, **how) for name, how in given.items()]
    Image.new("RGB", (9, 8)).save(tmp_path / "h.jpg")
    sizes = [header.size for header in read_headers([*paths, tmp_path / "h.jpg"])]
    lies, stands = (20, 10), (10, 20)
    assert sizes == [lies, lies, stands, lies, lies, stands, lies, (9, 8)]


def test_a_cut_head_is_named(tmp_path):
    whole = saved(tmp_path / "a.png").read_bytes()
    for length in (8, 16, 20):
        (tmp_path / "b.png").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="b.png"):
            [*read_headers([tmp_path / "a.png", tmp_path / "b.png"])]
