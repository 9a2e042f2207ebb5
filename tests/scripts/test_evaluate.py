"""The evaluation command: which benchmark, and what it prints."""

from scripts import evaluate


def test_instructions_are_followed_unless_a_task_is_named(tmp_path, capsys):
    options = "--scenes 1 --episodes 2 --max_steps 3 --num_rooms 1 1 --num_objects 2 2"
    evaluate.run([*options.split(), "--agents", "forward", "oracle", "--out", str(tmp_path)])
    table = capsys.readouterr().out
    assert "| forward |" in table
    assert "| oracle |" in table
    assert str(tmp_path / "report.html") in table
