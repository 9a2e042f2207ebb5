import json

import numpy as np
import pytest

from internnav_hf.data.formats.vln_pe.reader import find_units, is_vln_pe
from tests.data import vln_n1, vln_pe


@pytest.fixture
def unit(tmp_path):
    walks = [vln_pe.some_actions(6), vln_pe.some_actions(9)]
    return vln_pe.write_scene(tmp_path / "data" / "r2r" / "scene_0", walks)


@pytest.fixture
def read(unit):
    return lambda: list(vln_pe.read_walks(unit.parents[1]))


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_walks_are_read_with_their_instructions(read, unit):
    first, second = read()
    assert (first.length, second.length) == (6, 9)
    assert first.record.instructions == second.record.instructions == vln_pe.INSTRUCTIONS
    actions = first.columns["observation.action"].tolist()
    assert actions == vln_pe.some_actions(6)  # at each frame, not the next one
    assert first.record.instruction_tokens[1] == (9, 10, 7, 2)
    assert (first.record.finish_status, first.record.fail_reason) == ("success", "")
    assert first.record.unit == unit
    np.testing.assert_allclose(first.poses[:, :2], vln_pe.poses_of(vln_pe.some_actions(6))[:, :2])
    assert (np.abs(second.poses[:, 2]) <= np.pi).all()


def test_the_older_layout_is_read(tmp_path):
    unit = vln_pe.write_trajectory(tmp_path / "r2r" / "trajectory_0", vln_pe.some_actions(7))
    (walk,) = vln_pe.read_walks(tmp_path)
    assert walk.length == 7
    assert walk.record.instructions == vln_pe.INSTRUCTIONS
    assert walk.record.unit == unit


def test_instructions_go_by_their_number_and_not_by_their_line(read, unit):
    path = unit / "meta" / "tasks.jsonl"
    vln_pe.write_lines(path, lines_of(path)[::-1])
    assert [walk.record.instructions for walk in read()] == [vln_pe.INSTRUCTIONS] * 2


def test_an_episode_may_have_any_number_of_instructions(tmp_path):
    for number in (1, 2, 5):
        texts = [f"walk {i}" for i in range(number)]
        vln_pe.write_scene(tmp_path / "r2r" / f"{number}", [vln_pe.some_actions()], texts)
    found = [walk.record.instructions for walk in vln_pe.read_walks(tmp_path)]
    assert [len(instructions) for instructions in found] == [1, 2, 5]


def test_stats_may_be_in_lerobots_own_form(read, unit):
    path = unit / "meta" / "episodes_stats.jsonl"
    rows = [
        {
            "episode_index": row["episode_index"],
            "stats": {"task_index": {key: [value] for key, value in row["task_index"].items()}},
        }
        for row in lines_of(path)
    ]
    vln_pe.write_lines(path, rows)
    assert len(read()) == 2


def test_ids_of_nothing_but_padding_are_none(read, unit):
    path = unit / "meta" / "tasks.jsonl"
    rows = lines_of(path)
    vln_pe.write_lines(path, [row | {"instruction_tokens": [0] * 200} for row in rows])
    assert read()[0].record.instruction_tokens == ()


def test_what_led_to_a_frame_may_be_another_action(read, unit):
    columns = vln_pe.columns_of(vln_pe.some_actions(6))
    assert read()[0].columns["observation.previous_action"].tolist() == [-1, 1, 1, 2, 1, 1]
    led = np.array([-1, 2, 2, 3, 1, 1])
    vln_pe.write_parquet(unit, 0, columns | {"observation.previous_action": led})
    assert read()[0].columns["observation.previous_action"].tolist() == led.tolist()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "observation.action",
            [1, 2, 5, 1, 1, 0],
            r"action: found 5 at frame 2, expected one of \[",
        ),
        ("observation.action", [1, -1, 2, 1, 1, 0], "action: found -1 at frame 1"),
        ("observation.action", [0.5] * 6, "action: found 0.5 at row 0, expected whole numbers"),
        (
            "observation.previous_action",
            [-2, 1, 1, 1, 1, 1],
            "previous_action: found -2 at frame 0",
        ),
        (
            "observation.progress",
            [0, np.nan, 0, 0, 0, 0],
            "progress: found nan or infinity at frame 1",
        ),
        ("observation.progress", [0, None, 0, 0, 0, 0], "progress: found 1 empty values"),
        (
            "observation.robot_yaw",
            [np.inf] + [0] * 5,
            "robot_yaw: found nan or infinity at frame 0",
        ),
        (
            "observation.robot_position",
            [[0, 0, 0]] * 5 + [[0, np.nan, 0]],
            "robot_position: found nan or infinity at frame 5",
        ),
        ("observation.robot_position", [[0, 0]] * 6, r"expected float64 of shape \(3,\) a row"),
    ],
)
def test_broken_values_are_named(read, unit, name, value, message):
    columns = {
        key: rows.tolist() for key, rows in vln_pe.columns_of(vln_pe.some_actions(6)).items()
    }
    vln_pe.write_parquet(unit, 0, columns | {name: value})
    with pytest.raises(ValueError, match=message) as error:
        read()
    assert str(vln_pe.parquet_of(unit)) in str(error.value)


@pytest.mark.parametrize("name", ["observation.progress", "observation.action"])
def test_a_missing_column_is_named(read, unit, name):
    columns = vln_pe.columns_of(vln_pe.some_actions(6))
    length = len(columns["observation.action"])
    del columns[name]
    vln_pe.write_parquet(unit, 0, columns, length)
    with pytest.raises(ValueError, match=f"columns: found .*expected {name}"):
        read()


def test_an_episode_of_no_frame_is_named(read, unit):
    vln_pe.write_parquet(unit, 0, {k: v[:0] for k, v in vln_pe.columns_of([1, 0]).items()})
    with pytest.raises(ValueError, match="episode_000000.parquet: .*found"):
        read()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("tasks", {"task": " "}, "tasks.jsonl:1: task: found ' ', expected an instruction"),
        ("tasks", {"task_index": "0"}, "tasks.jsonl:1: task_index: found '0'"),
        ("tasks", {"task_index": 77}, "episodes_stats.jsonl:1: task_index: found 0 to 2"),
        ("tasks", {"instruction_tokens": ["a"]}, "tasks.jsonl:1: instruction_tokens: found"),
        ("tasks", {"instruction_tokens": None}, "found lists in 2 of 3 lines"),
        ("episodes_stats", {"task_index": {}}, "episodes_stats.jsonl:1: line: found"),
        ("episodes_stats", {"episode_index": 9}, "episode_000009.parquet: file: found no file"),
    ],
)
def test_broken_meta_files_are_named(read, unit, file, change, message):
    path = unit / "meta" / f"{file}.jsonl"
    rows = lines_of(path)
    vln_pe.write_lines(path, [rows[0] | change, *rows[1:]])
    with pytest.raises(ValueError, match=message):
        read()


@pytest.mark.parametrize(
    ("text", "message"), [("{", "line: found"), ("[]", "a JSON object"), ("", "found no line")]
)
def test_lines_that_are_no_objects_are_named(read, unit, text, message):
    (unit / "meta" / "tasks.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        read()


def test_a_folder_without_stats_is_named(read, unit):
    (unit / "meta" / "episodes_stats.jsonl").unlink()
    with pytest.raises(ValueError, match="episodes_stats.jsonl: file: found no file"):
        read()


def test_scans_are_found_and_named(tmp_path, unit):
    root = unit.parents[1]
    vln_pe.write_scene(root / "r2r_flash" / "b", [vln_pe.some_actions()])
    assert [found.name for found in find_units(root)] == ["scene_0", "b"]
    assert [found.name for found in find_units(root, ["r2r_flash"])] == ["b"]
    with pytest.raises(ValueError, match="found no scan 'r2r_flush'.*Did you mean 'r2r_flash'"):
        find_units(root, ["r2r_flush"])
    with pytest.raises(ValueError, match=f"found no episodes.*Pass the folder above it: {root}"):
        find_units(root / "r2r")
    with pytest.raises(ValueError, match="no such folder"):
        find_units(root / "absent")


def test_archives_that_were_not_unpacked_are_named(tmp_path, unit):
    root = unit.parents[1]
    packed = root / "interiornav" / "kujiale_1.tar.gz"
    packed.parent.mkdir()
    packed.touch()
    assert find_units(root) == [unit]
    with pytest.raises(ValueError, match="interiornav: found no episodes.*kujiale_1.tar.gz"):
        find_units(root, ["r2r", "interiornav"])
    alone = tmp_path / "alone"
    alone.mkdir()
    packed.parent.rename(alone / "interiornav")
    with pytest.raises(ValueError, match="alone: found no episodes.*unpack them first"):
        find_units(alone)


def test_the_format_is_told_from_its_neighbours(unit, tmp_path):
    assert is_vln_pe(unit)
    vln_pe.parquet_of(unit).write_bytes(b"")
    assert is_vln_pe(unit)
    (unit / "meta" / "tasks.jsonl").unlink()
    assert is_vln_pe(unit)
    other = vln_n1.write_unit(tmp_path / "zed" / "scene", [vln_n1.walk(5)])
    assert not is_vln_pe(other)
    assert not is_vln_pe(tmp_path)


def test_an_episode_is_told_once(read, unit):
    path = unit / "meta" / "episodes_stats.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0])
    with pytest.raises(ValueError, match="episodes_stats.jsonl:3: episode_index: found 0 again"):
        read()


def test_marks_that_look_like_new_lines_stay_in_an_instruction(read, unit):
    path, text = unit / "meta" / "tasks.jsonl", "Walk\u2028past\x85the chair"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [json.dumps(row | {"task": text}, ensure_ascii=False) for row in rows]
    path.write_text("\r\n".join(lines), encoding="utf-8")
    assert set(read()[0].record.instructions) == {text}
