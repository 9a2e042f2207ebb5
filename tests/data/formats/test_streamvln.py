import json

import pytest

from internnav_hf.data.formats.streamvln import RecordedTrajectory, read_trajectories
from tests.data.streamvln import read_entries, write_annotations, write_set


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "R2R")


def walks(folder, *window):
    return list(read_trajectories(folder, *window))


def test_walks_have_their_frames_in_the_order_of_their_numbers(folder):
    first, *_ = found = walks(folder)
    assert [walk.name for walk in found] == ["xyz_r2r_000000", "abc_r2r_000001", "xyz_r2r_000002"]
    assert [path.stem for path in first.frames] == [str(number) for number in range(12)]
    assert first.actions == (-1, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2)
    assert first.instructions == ("Walk through xyz_r2r_000000. ", "Gehe zur Tür")
    assert (first.scene, first.number) == ("xyz", "000000")


def test_a_window_of_entries(folder):
    assert walks(folder, 1, 2) == walks(folder)[1:2]
    assert walks(folder, 2) == walks(folder)[2:]


def test_numbers_may_start_at_one_and_the_stop_may_be_told(folder):
    rgb = folder / "images" / "abc_r2r_000001" / "rgb"
    for number in (2, 1, 0):
        (rgb / f"{number}.png").rename(rgb / f"00{number + 1}.png")
    entries = read_entries(folder)
    entries[1]["actions"].append(0)
    write_annotations(folder, entries)
    walk = walks(folder)[1]
    assert [path.name for path in walk.frames] == ["001.png", "002.png", "003.png"]
    assert walk.actions == (-1, 1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": [-1, 1]}, "actions: found 2 of them, expected 3, as many as images in"),
        ({"actions": [-1, 1, 7]}, r"actions: found \[-1, 1, 7\], expected a list of"),
        ({"actions": None}, "actions: found None"),
        ({"video": "images/gone"}, "gone/rgb: folder: found no folder"),
        ({"video": 3}, "video: found 3, expected a folder"),
        ({"video": "/"}, "video: found '/', expected a folder"),
        ({"video": "images/../../R2R/images/abc_r2r_000001"}, "video: found .* expected a folder"),
        ({"video": "images/.._r2r_000001"}, "video: found .* expected a folder"),
        ({"video": "images/abc_r2r_.."}, "video: found .* expected a folder"),
        ({"instructions": []}, r"instructions: found \[\], expected a list of texts"),
        ({"instructions": [" "]}, "instructions: found"),
    ],
)
def test_a_broken_walk_is_named_and_leaves_the_others_whole(folder, change, message):
    entries = read_entries(folder)
    entries[1] |= change
    write_annotations(folder, entries)
    first, broken, last = walks(folder)
    with pytest.raises(ValueError, match=message):
        raise broken
    assert isinstance(first, RecordedTrajectory)
    assert isinstance(last, RecordedTrajectory)


def test_missing_and_misnamed_images_are_named(folder):
    rgb = folder / "images" / "xyz_r2r_000000" / "rgb"
    (rgb / "5.png").rename(rgb / "last.png")
    assert "image: found last.png, expected a number" in str(walks(folder)[0])
    (rgb / "last.png").unlink()
    assert "images: found number 6 after 4, expected 5" in str(walks(folder)[0])
    for path in rgb.iterdir():
        path.unlink()
    assert "images: found none, expected number 0 or 1 first" in str(walks(folder)[0])


def test_a_set_without_annotations_is_named_with_those_there_are(folder):
    with pytest.raises(ValueError, match=r"RxR/annotations.json: file: found no file.*\['R2R'\]"):
        walks(folder.parent / "RxR")
    for text, message in (
        ("[", "found .*Expecting value"),
        ("{}", "expected a list of walks"),
    ):
        (folder / "annotations.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            walks(folder)
    (folder / "annotations.json").write_text(json.dumps(["x"]))
    assert "entry 0: entry: found 'x'" in str(walks(folder)[0])


def test_files_of_other_systems_are_no_frames(folder):
    before = walks(folder)
    for path in list(folder.rglob("rgb/*.png")):
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
        path.with_name("Thumbs.db").touch()
    assert walks(folder) == before


def test_a_broken_entry_of_any_kind_leaves_the_others(folder):
    entries = read_entries(folder)
    deep = []
    for _ in range(500):
        deep = [deep]
    for change in ({"instructions": ["x" * 20_000]}, {"actions": deep}, {"instructions": deep}):
        write_annotations(folder, [entries[0], entries[1] | change, entries[2]])
        first, error, third = walks(folder)
        assert isinstance(error, ValueError)
        assert [first.name, third.name] == [entries[i]["video"].split("/")[1] for i in (0, 2)]
