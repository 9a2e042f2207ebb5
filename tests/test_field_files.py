import pytest

from internnav_hf.field_files import nearest_path, read_fields


def test_fields_are_read_with_merged_keys(tmp_path):
    path = tmp_path / "sizes.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 1e-3\n")
    assert read_fields(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 0.001}}
    path.write_text("")
    assert read_fields(path) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}", "line 2: c is given twice"),
        ("a: !!python/object:os.x {}", "line 1: could not determine a constructor"),
        ("- 1", "expected one `field: value` per line, found list"),
        ("a: [" + "[" * 2000, "nested too deeply|line"),
    ],
)
def test_a_file_that_is_not_right_is_one_line(tmp_path, text, message):
    path = tmp_path / "sizes.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_fields(path)
    assert "\n" not in str(raised.value)


def test_a_folder_or_a_large_file_is_no_file_of_fields(tmp_path):
    with pytest.raises(ValueError, match="a folder, expected a YAML or JSON file"):
        read_fields(tmp_path)
    (tmp_path / "large.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(ValueError, match="expected some fields"):
        read_fields(tmp_path / "large.yaml")


def test_the_nearest_path_is_named(tmp_path):
    (tmp_path / "traj_data").mkdir()
    assert nearest_path(tmp_path / "traj_dat" / "r2r") == f" Did you mean '{tmp_path}/traj_data'?"
    assert nearest_path(tmp_path / "elsewhere") == ""
