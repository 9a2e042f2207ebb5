import json

import pytest

from scripts import convert_vlnce
from scripts.convert_vlnce import ConvertArguments
from tests.data.streamvln import read_entries, write_annotations, write_set


@pytest.fixture
def data(tmp_path):
    write_set(tmp_path / "data" / "R2R")
    write_set(tmp_path / "data" / "RxR", (2,))
    return tmp_path / "data"


def convert(data, **options):
    out = data.parent / "out"
    convert_vlnce.main(ConvertArguments(str(data), str(out), **({"num_threads": 2} | options)))
    return out / "vln_ce_lerobot"


def places(root):
    return sorted(str(p.parent.parent.relative_to(root)) for p in root.rglob("info.json"))


def test_a_dataset_for_each_walk_lies_where_the_published_converter_puts_it(data):
    root = convert(data)
    assert places(root) == ["r2r/abc/000001", "r2r/xyz/000000", "r2r/xyz/000002"]
    info = json.loads((root / "r2r/xyz/000002/meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == (
        "v2.1",
        1,
        4,
    )


def test_several_sets_each_as_one_dataset(data):
    root = convert(data, datasets=["R2R", "RxR"], one_dataset=True, version="v3.0")
    assert places(root) == ["r2r", "rxr"]
    assert json.loads((root / "r2r/meta/info.json").read_text())["total_frames"] == 19


def test_what_is_there_is_left_and_the_rest_is_added(data):
    root = convert(data, start_index=1, end_index=2)
    assert places(root) == ["r2r/abc/000001"]
    written_at = (root / "r2r/abc/000001/meta/info.json").stat().st_mtime_ns
    assert len(places(convert(data))) == 3
    assert (root / "r2r/abc/000001/meta/info.json").stat().st_mtime_ns == written_at


def test_broken_walks_are_one_error_or_left_out(data, caplog):
    entries = read_entries(data / "R2R")
    entries[0]["actions"] = [9]
    write_annotations(data / "R2R", entries)
    with pytest.raises(ValueError, match="1 of 3 episodes are broken(?s:.*)--skip_broken true"):
        convert(data)
    assert not (data.parent / "out").exists()
    assert len(places(convert(data, skip_broken=True))) == 2
    assert "1 of 3 episodes are broken" in caplog.text


def test_an_image_that_cannot_be_read_breaks_its_dataset_only(data):
    (data / "R2R/images/xyz_r2r_000002/rgb/1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="000002/rgb/1.png: image: found 8 bytes"):
        convert(data)
    assert places(data.parent / "out/vln_ce_lerobot") == ["r2r/abc/000001", "r2r/xyz/000000"]
    assert len(places(convert(data, skip_broken=True))) == 2


def test_two_walks_for_one_place_are_an_error(data):
    entries = read_entries(data / "R2R")
    write_annotations(data / "R2R", [*entries, entries[0]])
    with pytest.raises(
        ValueError, match="would both be written to .*xyz/000000; pass --one_dataset"
    ):
        convert(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ["EnvDrop"]}, "EnvDrop/annotations.json: file: found no file"),
        ({"start_index": 3}, "found no episode in the requested entries"),
        ({"start_index": 2, "end_index": 1}, "must be indices of entries, in order"),
        ({"num_threads": 0}, "--num_threads must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(data, options, message):
    with pytest.raises(ValueError, match=message):
        convert(data, **options)
