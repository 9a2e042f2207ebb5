import numpy as np
import pytest

from internnav_hf.policies.goals import ImageGoal, NoGoal, PixelGoal, PointGoal, PointImageGoal

VIEW = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("goal", "kind"),
    [
        (PointGoal((1.0, 0.5)), "point"),
        (ImageGoal(VIEW), "image"),
        (PixelGoal((3.0, 2.0)), "pixel"),
        (PixelGoal((3.0, 2.0), view=VIEW), "pixel"),
        (NoGoal(), "none"),
        (PointImageGoal((1.0, 0.5), VIEW), "point+image"),
    ],
)
def test_every_goal_has_a_kind(goal, kind):
    assert goal.kind == kind


def test_goals_with_pictures_can_be_compared():
    goal = ImageGoal(VIEW)
    assert goal == goal
    assert goal != ImageGoal(VIEW)
    assert PointGoal((1.0, 2.0)) == PointGoal((1.0, 2.0))
