"""What is exported in the published layout reads back, and topological maps open in order."""

import numpy as np
import pytest

from internnav_hf.data import ImageGoalDataset
from internnav_hf.data.formats.trajectories import read_names
from internnav_hf.data.formats.trajectory_export import read_map
from scripts.export_trajectories import ExportArguments, main
from tests.data import vln_n1
from tests.data.trajectories import frame


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    vln_n1.write_root(folder / "vln_n1")
    given = {"data_root": str(folder / "vln_n1"), "cache_dir": str(folder / "cache")}
    for _ in range(2):  # the second keeps what the first wrote
        main(ExportArguments(out=str(folder / "out"), maps=2, frames_per_node=8, **given))
    return folder


def test_trajectories_have_the_poses_and_views_of_the_episodes(written):
    small = {"image_size": (40, 32), "cache_dir": written / "cache"}
    source = ImageGoalDataset(written / "vln_n1", **small)
    split = written / "out" / "splits"
    parts = [
        ImageGoalDataset(written / "out" / "trajectories", split=split / name, **small)
        for name in ("train", "test")
    ]
    names = [name for part in parts for name in part.episodes["unit"].to_pylist()]
    assert len(names) == len(set(names)) == source.episodes.num_rows
    assert len(read_names(split / "test")) == round(len(names) / 5)
    poses, expected = parts[0]._episode(0).poses, source._episode(1).poses
    assert len(poses) == len(expected) - 2  # the last two frames are in no stretch
    np.testing.assert_allclose(poses, expected[:-2], atol=1e-6)
    assert parts[0].waypoint_spacing_m == pytest.approx(source.waypoint_spacing_m, rel=0.05)


def test_a_map_opens_in_the_order_of_its_numbers(written, tmp_path):
    maps = sorted((written / "out" / "topomaps").iterdir())
    assert len(maps) == 2
    assert len(read_map(maps[0])) == 6  # of 40 frames every eighth and the last
    for number in (0, 2, 10):
        frame(number).save(tmp_path / f"{number}.png")
    first, _, last = read_map(tmp_path)
    assert np.array_equal(np.asarray(first), np.asarray(frame(0)))
    assert np.array_equal(np.asarray(last), np.asarray(frame(10)))


def test_a_map_of_one_node_or_other_names_is_one_error(tmp_path):
    with pytest.raises(ValueError, match="found no file, expected a topological map"):
        read_map(tmp_path / "nowhere")
    frame(0).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match="nodes: found 1 images, expected two or more"):
        read_map(tmp_path)
    frame(0).save(tmp_path / "door.png")
    with pytest.raises(ValueError, match="nodes: found door.png"):
        read_map(tmp_path)
