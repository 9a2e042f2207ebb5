"""What a path costs on a map, differentiably: obstacles, height, motion, distance to the goal.

A map is an array of costs [x, y]. Cell i begins at `origin` + i * `resolution`, and its value
stands at its middle; beyond the map the values of its edge go on.

Legend: B paths, N points of a path, S readings beside each other (1, or 3 for a robot with width),
M readings along a path, X and Y cells.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from internnav_hf.models.planners.spline import straight_path


class CostMap(NamedTuple):
    """Maps, one for each path: `costs` (B, X, Y), `origin` (B, 2) m, `resolution` (B,) m; `ground`
    (B, X, Y), heights in metres, None for level ground.
    """

    costs: Tensor
    origin: Tensor
    resolution: Tensor
    ground: Tensor | None = None

    def at(self, xy: Tensor) -> Tensor:
        """Costs (B, ...) at world points (B, ..., 2)."""
        return self._read(self.costs, xy)

    def ground_at(self, xy: Tensor) -> Tensor:
        """Heights (B, ...) at world points (B, ..., 2)."""
        return torch.zeros_like(xy[..., 0]) if self.ground is None else self._read(self.ground, xy)

    def _read(self, values: Tensor, xy: Tensor) -> Tensor:
        points = xy.flatten(1, -2)
        cells = (points - self.origin[:, None]) / self.resolution[:, None, None]
        half = cells.new_tensor(values.shape[1:]) / 2
        places = ((cells - half) / half)[:, None]
        image = values.to(places).mT[:, None]
        how = {"mode": "bicubic", "padding_mode": "border", "align_corners": False}
        return F.grid_sample(image, places, **how)[:, 0, 0].view(xy.shape[:-1])


class PathCosts(NamedTuple):
    """Costs (B,) of paths; `obstacles` (B, S, M) are the readings of the map."""

    obstacle: Tensor
    height: Tensor
    motion: Tensor
    goal: Tensor
    obstacles: Tensor


def path_costs(
    waypoints: Tensor, goal: Tensor, T_world_robot: Tensor, costs: CostMap, config
) -> PathCosts:
    """Costs of `waypoints` (B, N, 3) and `goal` (B, 3) in the robot's frame, whose pose is
    `T_world_robot` (B, 4, 4).
    """
    world = waypoints @ T_world_robot[:, :3, :3].mT + T_world_robot[:, None, :3, 3]
    places = footprint(world[..., :2], config.robot_width_m, config.guard_equal_keypoints)
    obstacles = costs.at(places)
    is_robot = config.height_frame == "robot"
    height = waypoints[..., 2] if is_robot else world[..., 2] - T_world_robot[:, None, 2, 3]
    straight = straight_path(goal, waypoints.shape[1])
    return PathCosts(
        obstacle=obstacles.sum(-1).mean(1),
        height=(height - costs.ground_at(world[..., :2])).abs().sum(1),
        motion=(_steps(straight) - _steps(waypoints)).abs().sum(1),
        goal=(goal - waypoints[:, -1]).norm(dim=-1).log1p(),
        obstacles=obstacles,
    )


def footprint(points: Tensor, width_m: float, guard: bool = True) -> Tensor:
    """Points (B, S, M, 2) at which the map is read along a path (B, N, 2): itself, or for a robot
    of some width all but its last point, and half the width to the left and to the right of them.
    """
    if not width_m:
        return points[:, None]
    steps = points.diff(dim=1)
    lengths = steps.norm(dim=-1, keepdim=True)
    if guard:  # the gradient of 0 / 1 is finite, that of 0 / 0 is not
        lengths = lengths.where(lengths > 0, 1.0)
    ahead = steps / lengths
    left = torch.stack([-ahead[..., 1], ahead[..., 0]], dim=-1) * width_m / 2
    return torch.stack(
        [points[:, :-1] + shift for shift in (left, torch.zeros_like(left), -left)], 1
    )


def fear_labels(obstacles: Tensor, waypoints: Tensor, config) -> Tensor:
    """(B,) whether the first metres of each path cost more than is feared, as 0 or 1."""
    lengths = _steps(waypoints).cumsum(1)
    ahead = obstacles.detach()[..., -lengths.shape[1] :]
    is_near = (lengths <= config.fear_distance_m)[:, None]
    worst = ahead.where(is_near, 0.0).amax((1, 2))
    return (worst > config.fear_threshold).to(waypoints)


def measured_costs(obstacles: Tensor, traversable_cost: float) -> tuple[Tensor, Tensor]:
    """Mean and largest cost (B,) of readings (B, S, M) above that of the ground to be used."""
    above = (obstacles - traversable_cost).clamp(min=0).flatten(1)
    return above.mean(1), above.amax(1)


def _steps(points: Tensor) -> Tensor:
    return points.diff(dim=1).norm(dim=-1)
