import numpy as np
import pytest

from internnav_hf.data.formats.vln_pe.checks import CheckedWalk, check_walk, sound_walks
from internnav_hf.data.formats.vln_pe.frames import FrameRules
from tests.data import vln_pe

ACTIONS = [1, 1, 2, 1, 1, 3, 3, 1, 2, 1, 1, 1, 2, 2, 1, 1, 3, 1, 1, 0]


def written(tmp_path, **changes):
    """A scene of one walk; `changes` are functions of columns, by the end of their names."""
    unit = vln_pe.write_scene(tmp_path / "r2r" / "scene", [ACTIONS])
    columns = vln_pe.columns_of(ACTIONS)
    for name, change in changes.items():
        columns[f"observation.{name}"] = change(columns[f"observation.{name}"])
    vln_pe.write_parquet(unit, 0, columns)
    return tmp_path


def walks_of(root):
    return list(vln_pe.read_walks(root))


def judged(root):
    walks = [CheckedWalk.of(walk, FrameRules()) for walk in walks_of(root)]
    return sound_walks(walks[0].walk.record.unit, walks)


def test_a_sound_walk_passes(tmp_path):
    sound, problems = judged(written(tmp_path))
    assert len(sound) == 1
    assert not problems


def test_an_uneven_robot_passes(tmp_path):
    rng = np.random.default_rng(0)
    root = written(
        tmp_path,
        robot_position=lambda xyz: xyz + 0.04 * rng.normal(size=xyz.shape),
        robot_yaw=lambda yaw: yaw + 0.04 * rng.normal(size=yaw.shape),
    )
    assert len(judged(root)[0]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"robot_position": lambda xyz: xyz * 1000}, "robot_position: found steps of 250 m"),
        ({"robot_position": lambda xyz: xyz + 1e30}, "robot_position: found x, y of 1e"),
        ({"robot_position": lambda xyz: xyz * 0}, "robot_position: found 0 m in 12 forward"),
        ({"robot_yaw": np.degrees}, "robot_yaw: found .* are these degrees"),
        ({"robot_yaw": lambda yaw: 1.6 - yaw}, "robot_yaw: found steps .* aside"),
        ({"progress": lambda share: share[::-1]}, "progress: found 0.95 at first and 0 at last"),
        ({"progress": lambda share: 100 * share}, "progress: found 95, .* is this percent"),
        (
            {"action": lambda a: np.where(np.arange(20) == 8, 0, a)},
            "action: found a stop at frame 8 of 20, and the walk goes on",
        ),
    ],
)
def test_what_is_no_walk_is_named(tmp_path, changes, message):
    (walk,) = walks_of(written(tmp_path, **changes))
    with pytest.raises(ValueError, match=message):
        check_walk(walk)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: np.append([1], a[:-1]), "shifted by one: these are the actions that LED TO"),
        (lambda a: np.append(a[1:], [0]), "shifted by one: each stands a frame too early"),
        (lambda a: np.select([a == 2, a == 3], [3, 2], a), "with left and right swapped"),
    ],
)
def test_actions_of_another_convention_are_named(tmp_path, change, message):
    sound, (problem,) = judged(written(tmp_path, action=change))
    assert not sound
    with pytest.raises(ValueError, match=message):
        raise ValueError(problem)


def test_a_robot_may_stand_on_after_its_stop(tmp_path):
    unit = vln_pe.write_scene(tmp_path / "r2r" / "scene", [[*ACTIONS, 0, 0]])
    assert len(judged(unit.parents[1])[0]) == 1


def test_plans_of_other_frames_are_named(tmp_path):
    root = written(tmp_path)
    columns = vln_pe.columns_of(ACTIONS)
    columns["observation.previous_action"] = np.append([-1], ACTIONS[:-1])
    columns["observation.expert_steps"] = np.arange(len(ACTIONS), 0, -1)
    plans = np.array([np.append(ACTIONS[t:], [0] * 8)[:8] for t in range(len(ACTIONS))])
    columns["observation.expert_actions"] = plans
    unit = root / "r2r" / "scene"
    vln_pe.write_parquet(unit, 0, columns)
    check_walk(walks_of(root)[0])
    columns["observation.action"] = np.append(ACTIONS[1:], 0)
    vln_pe.write_parquet(unit, 0, columns)
    with pytest.raises(ValueError, match="expert_actions: found the first actions of the plans of"):
        check_walk(walks_of(root)[0])
