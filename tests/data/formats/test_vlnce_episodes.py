import gzip
import json

import numpy as np
import pytest

from internnav_hf.data.formats.vlnce_episodes import read_vlnce_episodes

R2R = {
    "episode_id": 7,
    "trajectory_id": 3,
    "scene_id": "mp3d/a/a.glb",
    "start_position": [1.0, 0.1, -2.0],
    "start_rotation": [0.0, 0.7, 0.0, 0.7],
    "info": {"geodesic_distance": 9.5},
    "goals": [{"position": [4.0, 0.1, 2.0], "radius": 3.0}],
    "instruction": {"instruction_text": "Go on. ", "instruction_tokens": [5, 6, 0]},
    "reference_path": [[1.0, 0.1, -2.0], [4.0, 0.1, 2.0]],
}
RXR_INSTRUCTION = {
    "instruction_id": "42",
    "instruction_text": "You are facing a door.",
    "language": "en-IN",
    "annotator_id": "9",
    "timed_instruction": [{"word": "You", "start_time": 0.1, "end_time": 0.4}, {"word": "are"}],
}


def write(folder, *episodes, name="train.json.gz"):
    path = folder / name
    path.write_bytes(gzip.compress(json.dumps({"episodes": episodes}).encode()))
    return path


def test_r2r_is_read(tmp_path):
    (episode,) = read_vlnce_episodes(write(tmp_path, R2R))
    assert (episode.episode_id, episode.trajectory_id, episode.scene_id) == (
        "7",
        "3",
        R2R["scene_id"],
    )
    assert episode.instruction == "Go on. "
    assert episode.instruction_tokens == (5, 6, 0)
    assert episode.goal_radius == 3.0
    assert episode.geodesic_distance == 9.5
    np.testing.assert_array_equal(episode.goal_position, [4.0, 0.1, 2.0])
    assert episode.reference_path.shape == (2, 3)


def test_rxr_is_read(tmp_path):
    (episode,) = read_vlnce_episodes(write(tmp_path, R2R | {"instruction": RXR_INSTRUCTION}))
    assert (episode.instruction_id, episode.language) == ("42", "en-IN")
    assert not episode.instruction_tokens


def test_a_test_split_tells_no_goal(tmp_path):
    known = ("goals", "reference_path", "info")
    (episode,) = read_vlnce_episodes(
        write(tmp_path, {key: value for key, value in R2R.items() if key not in known})
    )
    assert episode.goal_position is None
    assert episode.reference_path is None
    assert episode.geodesic_distance is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction": {"instruction_text": " "}}, "instruction_text: found ' '"),
        ({"instruction": None}, "instruction_text: found None"),
        ({"start_position": [1, 2]}, "start_position: found .*expected numbers of shape"),
        ({"start_rotation": None}, "start_rotation: found None"),
        ({"reference_path": [1, 2]}, "reference_path: found"),
        ({"scene_id": None}, "scene_id: found None, expected a name"),
        ({"goals": ["x"]}, r"goals: found \['x'\], expected a list of objects"),
        ({"goals": {"a": 1}}, "goals: found .* expected a list of objects"),
        ({"info": "x"}, "info: found 'x', expected an object"),
        (
            {"instruction": {"instruction_text": "Go", "instruction_tokens": 5}},
            "instruction_tokens: found 5, expected a list",
        ),
    ],
)
def test_a_broken_episode_is_named(tmp_path, change, message):
    path = write(tmp_path, R2R, R2R | change)
    with pytest.raises(ValueError, match=message) as error:
        read_vlnce_episodes(path)
    assert f"{path}, episode 1" in str(error.value)


def test_a_file_without_episodes_is_named(tmp_path):
    with pytest.raises(ValueError, match="episodes: found"):
        read_vlnce_episodes(write(tmp_path))
    with pytest.raises(ValueError, match="found no file"):
        read_vlnce_episodes(tmp_path / "val_seen.json.gz")
