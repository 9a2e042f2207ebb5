"""The demos' verdicts: what they compare is there, or the file is named."""

import json

import pytest

from internnav_hf.evaluation.verdict import judge, read_number


def test_numbers_are_found_under_dotted_names(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"agents": {"random": {"sr": 0.25}}, "loss": 2}))
    assert read_number(path, "agents.random.sr") == 0.25
    assert read_number(path, "loss") == 2.0


@pytest.mark.parametrize(
    "text", ["", '{"loss": 1', "[]", '{"loss": "1"}', '{"loss": NaN}', '{"loss": true}', "\xff"]
)
def test_what_is_no_number_names_the_file(tmp_path, text):
    path = tmp_path / "metrics.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"^.*metrics\.json.*expected[^\n]*$"):
        read_number(path, "loss")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.json: file: found no file"):
        read_number(tmp_path / "metrics.json", "loss")
    with pytest.raises(ValueError, match="expected what a demo measured"):
        read_number(tmp_path, "loss")


@pytest.mark.parametrize(
    "text",
    [
        "Success: 0.5",
        "Success: {at_least: 1}",
        "Success: {number: sr}",
        "Success: {number: sr, at_least: 1, at_most: 2}",
        "Success: {number: sr, at_least: much}",
        "Success: {number: sr, at_least: 1, unit: miles}",
        "Success: {number: sr, at_least: 1, other: {chance: random.sr}}",
        "Success: {number: sr, at_least: 1, of: random.sr}",
    ],
)
def test_a_limit_that_cannot_be_read_names_file_and_line(tmp_path, text):
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"limits\.yaml, Success: found .*expected number, one of"):
        judge(tmp_path / "limits.yaml", tmp_path)


@pytest.mark.parametrize("text", ["", "{}"])
def test_a_file_without_a_comparison_is_refused(tmp_path, text):
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"limits\.yaml: found no comparison"):
        judge(tmp_path / "limits.yaml", tmp_path)
