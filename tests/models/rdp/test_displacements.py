"""Displacements are scaled, and become actions, as published."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.rdp.displacements import NO_ACTION, discrete_actions, scale, unscale
from tests.tiny.rdp_golden import LIMITS
from tests.tiny.vln_golden import golden


@pytest.fixture(scope="module")
def given():
    return golden("rdp_parse_action")


@pytest.mark.parametrize("rule", ["stop_progress", "progress", "distance"])
def test_actions_of_the_reference(given, rule):
    heads = {} if rule == "distance" else {rule: given[f"in.{rule}"][:, 0]}
    expected = given[f"out.actions_{rule}"]
    expected = expected.where(expected != -9, NO_ACTION)  # upstream appends nothing
    assert_close(discrete_actions(given["out.deltas"], **heads), expected)


def test_metres_of_the_reference(given):
    metres = unscale(given["in.normalized_actions"], *LIMITS)
    assert_close(metres, given["out.deltas"], atol=1e-6, rtol=0)
    assert_close(scale(metres, *LIMITS), given["in.normalized_actions"], atol=1e-6, rtol=0)


def test_what_was_not_decided_is_no_stop():
    nothing = torch.full((1, 8, 3), torch.nan)
    assert (discrete_actions(nothing, torch.full((1,), torch.nan)) != 0).all()


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_a_short_horizon_has_no_three_still_steps_to_look_at(horizon):
    still = torch.zeros(1, horizon, 3)
    assert (discrete_actions(still, torch.zeros(1)) == NO_ACTION).all()
    assert (discrete_actions(still, torch.ones(1)) == 0).all()
