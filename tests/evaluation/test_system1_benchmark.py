"""The visual-navigation benchmark's command."""

import pytest

from internnav_hf.evaluation.system1_benchmark import System1Arguments, asked_tasks


def test_the_task_decides_which_options_there_are():
    assert asked_tasks(["--out", "x"]) == ["vln"]
    assert asked_tasks(["--task", "point-goal", "no-goal", "--out", "x"]) == [
        "point-goal",
        "no-goal",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": ["point-gaol"]}, "--task: found point-gaol, expected vln, or some of point-goal"),
        ({"task": ["vln", "no-goal"]}, "--task: vln is measured by itself"),
        ({"task": []}, "--task: found nothing"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        System1Arguments(**changes)
