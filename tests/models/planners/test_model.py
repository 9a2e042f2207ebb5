"""Planners: equal keypoints, edges of maps, what labels and gradients depend on, configuration."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.planners.config import ViPlannerConfig, iPlannerConfig
from internnav_hf.models.planners.cost import CostMap, fear_labels, footprint, path_costs
from internnav_hf.models.planners.model import ViPlannerModel
from internnav_hf.models.planners.spline import spline, straight_path
from tests.tiny.planners import SIZES, tiny_viplanner


def level(costs, resolution=0.1) -> CostMap:
    """A map from (0, 0) on."""
    return CostMap(costs[None], torch.zeros(1, 2), torch.tensor([resolution]))


def test_a_spline_goes_through_its_keypoints():
    keypoints = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))
    path = spline(keypoints)
    assert path.shape == (3, 41, 3)
    assert_close(path[:, 10::10], keypoints)
    assert not path[:, 0].any()
    line = straight_path(torch.tensor([[2.0, 1.0, 0.0]]), 51)
    assert_close(line[0, 25], torch.tensor([1.0, 0.5, 0.0]))


def test_equal_keypoints_poison_the_loss_only_as_published():
    keypoints = torch.tensor([[[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [3, 1, 0]]])
    costs, pose = level(torch.rand(50, 50)), torch.eye(4)[None]
    for guarded in (True, False):
        config, given = ViPlannerConfig(guard_equal_keypoints=guarded), keypoints.clone()
        given.requires_grad_()
        found = path_costs(spline(given), torch.tensor([[3.0, 1, 0]]), pose, costs, config)
        found.obstacle.sum().backward()
        assert bool(found.obstacle.isfinite().all()) == guarded
        assert bool(given.grad.isfinite().all()) == guarded


def test_a_wide_robot_reads_the_map_beside_its_path():
    path = torch.tensor([[[0.0, 0], [1, 0], [1, 1]]])
    rows = footprint(path, 0.6)
    assert_close(rows[0, 0], torch.tensor([[0.0, 0.3], [0.7, 0.0]]))
    assert_close(rows[0, 1], path[0, :2])
    assert_close(rows[0, 2], torch.tensor([[0.0, -0.3], [1.3, 0.0]]))
    assert footprint(path, 0.0).shape == (1, 1, 3, 2)


def test_beyond_the_map_the_values_of_its_edge_go_on():
    costs = level(torch.arange(10.0)[:, None].expand(10, 8))
    places = torch.tensor([[[-5.0, 0.4], [0.45, 0.4], [99.0, 0.4], [99.0, -9.0]]])
    assert_close(costs.at(places), torch.tensor([[0.0, 4.0, 9.0, 9.0]]), atol=1e-4, rtol=0)


def test_only_near_obstacles_are_feared():
    config = iPlannerConfig()
    costs = torch.zeros(80, 20)
    costs[25:] = 1.0
    for goal, expected in ((1.3, 0.0), (2.9, 1.0)):
        waypoints = straight_path(torch.tensor([[goal, 0.0, 0.0]]), 51)
        pose = torch.eye(4)[None].clone()
        pose[0, 0, 3], pose[0, 1, 3] = 1.0, 1.0
        found = path_costs(waypoints, waypoints[:, -1], pose, level(costs), config)
        assert fear_labels(found.obstacles, waypoints, config).tolist() == [expected]
    far = path_costs(waypoints, waypoints[:, -1], torch.eye(4)[None], level(costs), config)
    assert far.obstacles.max() > 0.5  # after 2.5 m, more than the 2 m ahead
    assert fear_labels(far.obstacles, waypoints, config).tolist() == [0.0]


def test_heights_are_compared_in_the_robots_frame_or_in_the_worlds():
    waypoints = straight_path(torch.tensor([[2.0, 0.0, 1.0]]), 51)
    pose = torch.eye(4)[None].clone()
    pose[0, 2, 3] = 5.0
    pose[0, :3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # nose down
    costs = level(torch.zeros(10, 10))
    robot, world = (
        path_costs(waypoints, waypoints[:, -1], pose, costs, config).height
        for config in (iPlannerConfig(), ViPlannerConfig())
    )
    assert_close(robot, waypoints[..., 2].sum(1))
    assert_close(world, waypoints[..., 0].sum(1))


def test_semantics_matter_only_to_those_that_use_them():
    model = tiny_viplanner()
    batch = model.dummy_inputs
    with torch.no_grad():
        one = model.predict(batch["depth"], batch["goal_point"], batch["semantics"])
        other = model.predict(batch["depth"], batch["goal_point"], 255 - batch["semantics"])
        floats = batch["semantics"].float() / 255
        again = model.predict(batch["depth"], batch["goal_point"], floats)
    assert not torch.equal(one.keypoints, other.keypoints)
    assert_close(again.keypoints, one.keypoints)
    alone = tiny_viplanner(use_semantics=False)
    assert "semantics" not in alone.dummy_inputs
    assert [name for name, _ in alone.named_children()] == ["encoder", "decoder"]


def test_colours_may_take_the_place_of_classes(tmp_path):
    model = tiny_viplanner(use_semantics=False, use_rgb=True)
    batch = model.dummy_inputs
    assert batch["rgb"].shape == (2, 3, 96, 128)
    model(**batch).loss.backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
    model.save_pretrained(tmp_path)
    seen = batch["depth"], batch["goal_point"]
    with torch.no_grad():
        path = ViPlannerModel.from_pretrained(tmp_path).predict(*seen, rgb=batch["rgb"])
        other = model.predict(*seen, rgb=255 - batch["rgb"])
        assert_close(path.keypoints, model.predict(*seen, rgb=batch["rgb"]).keypoints)
    assert not torch.equal(path.keypoints, other.keypoints)
    with pytest.raises(ValueError, match=r"rgb: found None, expected \(B, 3, 96, 128\)"):
        model.predict(*seen, batch["rgb"])
    with pytest.raises(ValueError, match="use_rgb: found True, expected no use_semantics"):
        tiny_viplanner(use_rgb=True)


def test_inputs_of_other_shapes_are_named():
    model, batch = tiny_viplanner(), tiny_viplanner().dummy_inputs
    with pytest.raises(ValueError, match=r"ViPlannerModel: depth: found \(2, 48, 64\), expected"):
        model.predict(batch["depth"][:, ::2, ::2], batch["goal_point"], batch["semantics"])
    with pytest.raises(ValueError, match=r"semantics: found None, expected \(B, 3, 96, 128\)"):
        model.predict(batch["depth"], batch["goal_point"])
    with pytest.raises(ValueError, match=r"goal_point: found \(2, 2\), expected \(B, 3\)"):
        model.predict(batch["depth"], batch["goal_point"][:, :2], batch["semantics"])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_depth_m": 0}, "max_depth_m: found 0, expected metres"),
        ({"robot_width_m": -1}, "robot_width_m: found -1"),
        ({"height_frame": "map"}, "height_frame: found 'map'"),
        ({"depths": (1,)}, "depths: found"),
        ({"num_keypoints": 0}, "num_keypoints: found 0"),
        ({"image_height": 32}, "image_height: found 32, expected more pixels"),
        ({"hidden_sizes": ()}, "hidden_sizes: found"),
        ({"knodes": 5}, "has no field 'knodes'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        iPlannerConfig(**(SIZES | fields))
