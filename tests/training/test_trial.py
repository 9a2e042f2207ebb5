"""Whether anything works: two steps, saved and loaded."""

import math

from internnav_hf.training.trial import train_two_steps


def test_two_steps_are_trained_saved_and_loaded(tmp_path):
    found = train_two_steps(str(tmp_path))
    assert len(found["step_s"]) == len(found["losses"]) == 2
    assert all(map(math.isfinite, found["losses"]))
    assert found["equal"]
