"""Trajectories in the published layout: rows of the table, and one error for each broken thing."""

import numpy as np
import pytest

from internnav_hf.data.formats.registry import Reader
from internnav_hf.data.formats.trajectories import read_names, trajectories
from internnav_hf.data.index import index_folders
from tests.data.trajectories import frame, path, write_poses, write_root, write_trajectory


def rows(root, names=None):
    source = trajectories(root, names)
    return index_folders(source, source.find_folders())


def test_rows_are_the_trajectories(tmp_path):
    write_root(tmp_path)
    table = rows(tmp_path)
    assert table.broken_episodes == ()
    found = table.episodes.to_pylist()
    assert [row["unit"] for row in found] == ["one", "two"]
    assert [(row["length"], row["width"], row["height"]) for row in found] == [
        (24, 64, 48),
        (26, 64, 48),
    ]
    np.testing.assert_allclose(np.reshape(found[0]["poses"], (-1, 3)), path())
    (source,) = Reader("vln_n1", tmp_path).below(tmp_path, ["two"])
    assert [folder.name for folder in source.find_folders()] == ["two"]


def test_a_split_names_some(tmp_path):
    write_root(tmp_path / "data")
    split = tmp_path / "split"
    split.mkdir()
    (split / "traj_names.txt").write_text("two\n\n")
    assert read_names(split) == read_names(split / "traj_names.txt") == ["two"]
    assert rows(tmp_path / "data", read_names(split)).num_episodes == 1
    with pytest.raises(ValueError, match="found no trajectory tow.*Did you mean 'two'"):
        rows(tmp_path / "data", ["tow"])
    for content, told in ((b"", "no name"), (b"a/b\n", "'a/b'"), (b"\xff\xfe\n", "UTF-8")):
        (split / "traj_names.txt").write_bytes(content)
        with pytest.raises(ValueError, match=rf"traj_names.txt: file: found .*{told}"):
            read_names(split)


def test_yaw_may_have_two_axes_and_numbers_may_be_lists(tmp_path):
    folder = write_trajectory(tmp_path / "one")
    poses = path()
    write_poses(folder, {"position": poses[:, :2].tolist(), "yaw": poses[:, 2:]})
    np.testing.assert_allclose(
        np.reshape(rows(tmp_path).episodes["poses"][0].as_py(), (-1, 3)), poses
    )


def broken_poses(poses: np.ndarray) -> dict[str, tuple[object, str]]:
    """What is pickled, and words of the error."""
    xy, yaw = poses[:, :2], poses[:, 2]
    jump, hole, spin = xy.copy(), xy.copy(), 57.3 * 2.5 * np.arange(len(yaw))
    jump[9:] += 50
    hole[3, 1] = np.nan
    return {
        "no yaw": ({"position": xy}, r"names: found \['position'\], expected yaw"),
        "of another length": ({"position": xy, "yaw": yaw[:-1]}, "yaw: found 23 of them"),
        "degrees": ({"position": xy, "yaw": spin}, "yaw: found .*are these degrees"),
        "a gap": ({"position": jump, "yaw": yaw}, "position: found a jump of 7.* m to frame 9"),
        "millimetres": ({"position": 1000 * xy, "yaw": yaw}, "are these .*millimetres"),
        "NaN": ({"position": hole, "yaw": yaw}, "position: found .*nan.* at frame 3"),
        "three axes": ({"position": poses, "yaw": yaw}, r"position: found shape \(24, 3\)"),
        "no frame": ({"position": xy[:0], "yaw": yaw[:0]}, "position: found shape"),
        "text": ({"position": "here", "yaw": yaw}, "position: found 'here'"),
        "a list": ([xy, yaw], "traj_data.pkl: file: found a list"),
    }


@pytest.mark.parametrize("kind", broken_poses(path()))
def test_broken_poses_are_one_error(tmp_path, kind):
    folder = write_trajectory(tmp_path / "one")
    content, told = broken_poses(path())[kind]
    write_poses(folder, content)
    (problem,) = rows(tmp_path).broken_episodes
    assert "traj_data.pkl" in problem
    with pytest.raises(ValueError, match=told):
        raise ValueError(problem)


def test_missing_and_broken_frames_are_one_error(tmp_path):
    folder = write_trajectory(tmp_path / "one")
    (folder / "7.jpg").unlink()
    assert "found 23, without 7.jpg, expected 0.jpg to 23.jpg" in rows(tmp_path).broken_episodes[0]
    frame(7, (32, 48)).save(folder / "7.jpg")
    assert "7.jpg: size: found (32, 48)" in rows(tmp_path).broken_episodes[0]
    (folder / "7.jpg").write_bytes(b"no image")
    assert "7.jpg: file: found 8 bytes" in rows(tmp_path).broken_episodes[0]
