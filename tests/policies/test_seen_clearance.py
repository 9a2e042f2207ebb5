import numpy as np
from numpy.testing import assert_allclose

from internnav_hf.camera import CameraSpec
from internnav_hf.policies.seen_clearance import free_shares, seen_from

AHEAD = np.stack([np.linspace(0, 2, 11), np.zeros(11)], axis=1)


def test_a_path_is_free_until_it_touches_something():
    aside = AHEAD + np.linspace(0, 1, 11)[:, None] * (0, 2)
    shares = free_shares(np.stack([AHEAD, aside]), np.array([[1.6, 0.0]]), 0.25)
    assert_allclose(shares, [1.4 / 2, 1.0], atol=0.06)
    assert_allclose(free_shares(AHEAD[None], np.zeros((0, 2)), 0.25), [1.0])


def test_a_robot_may_leave_what_it_touches():
    paths = np.stack([-AHEAD, np.zeros_like(AHEAD)])
    assert_allclose(free_shares(paths, np.array([[0.1, 0.0]]), 0.25), [1.0, 1.0])


def test_a_wall_is_seen_where_it_stands():
    camera = CameraSpec(width=64, height=48, hfov_deg=90, height_m=1.0, pitch_deg=0.0)
    found = seen_from(np.full((48, 64), 2.0), camera)
    assert_allclose(found[:, 0], 2.0, atol=1e-6)
    assert np.ptp(found[:, 1]) > 3.5
