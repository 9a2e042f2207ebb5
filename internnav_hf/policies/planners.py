"""iPlanner and ViPlanner at inference: a view and a point in, a path out.

Nothing is remembered but the fear: if the network fears a collision on a path that leads ahead for
more than a few frames, the robot stops, and stands until as many frames were calm. Points may lie
anywhere; farther ones than the training's are drawn nearer on their line. `as_benchmarked` follows
NavDP's servers instead, which cut x and y apart, so that far goals change their direction, ask for
a goal one metre above the floor, and see walls at 6.55 m where nothing is.

Legend: N points of a path, H and W rows and columns of the model's images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from internnav_hf.camera import CameraSpec
from internnav_hf.models.planners.config import ViPlannerConfig, iPlannerConfig
from internnav_hf.models.planners.semantics import class_colours
from internnav_hf.models.planners.views import (
    depth_view,
    rgb_view,
    semantic_view,
    without_unknown_colours,
)
from internnav_hf.policies.benchmarked import sent_depth
from internnav_hf.policies.camera_contract import CameraContract
from internnav_hf.policies.episodes import check_count, check_numbers
from internnav_hf.policies.goals import Goal, PointGoal, checked_goal
from internnav_hf.policies.loading import open_policy
from internnav_hf.policies.observations import (
    check_parts,
    checked_batch,
    checked_depth,
    checked_keys,
    checked_picture,
    place_of,
)
from internnav_hf.policies.policy import DrivenPath, GoalPolicy

if TYPE_CHECKING:
    from internnav_hf.models.planners.model import PlannerModel

BENCHMARKED_GOAL_HEIGHT_M = 1.0
BENCHMARKED_MAX_DEPTH_M = 15.0


@dataclass(frozen=True)
class PlannerStep(DrivenPath):
    """`path` (N, 2) in metres in the robot's frame, from (0, 0), where it stays if the robot has
    arrived or fears to go on (`is_afraid`); `fear` is the probability that the path collides.
    """

    fear: float
    is_afraid: bool = False
    trajectories: None = None
    values: None = None


@dataclass
class PlannerEpisode:
    """The fear of one robot: how many frames it counted, and whether the robot stands for it."""

    fearful_frames: int = 0
    is_afraid: bool = False

    def feel(self, is_fearful: bool, most_frames: int) -> None:
        """Count a frame."""
        if is_fearful and not self.is_afraid:
            self.fearful_frames += 1
        elif self.is_afraid and not is_fearful:
            self.fearful_frames -= 1
        self.is_afraid |= self.fearful_frames > most_frames
        self.is_afraid &= self.fearful_frames > 0


class PlannerPolicy(GoalPolicy):
    """See the module; for one robot (`reset`, `act`) or many (`start`, `steps`).

    An observation has `rgb` (H, W, 3) uint8, which is only compared with the rest unless the model
    sees colours, and `depth` (H, W) in metres; for a model of semantics also `semantics` (H, W, 3)
    uint8, the classes' colours, unless a `segmenter` makes them of `rgb`. Settings:

        farthest_goal_m: distance to which farther goals are drawn nearer; by default that of
            NavDP's servers, 5 m for iPlanner, 10 m for ViPlanner.
        arrival_m: distance to the goal from which the robot stays.
        fear_threshold: probability of a collision from which a frame is fearful.
        fearful_frames: so many are borne; with one more the robot stops.
        fear_distance_m, fear_angle: a path leads ahead if a point of it is farther away than that,
            and within that angle of the robot's heading.
        segmenter: makes colours of classes (H, W, 3) uint8 of a view, for models of semantics.
        as_benchmarked: goals and depths as NavDP's servers treat them, see the module.
        camera: the robot's. Differences from the training's (`cameras`) are reported once.
        strict_camera: such a difference is a ValueError.
    """

    model_type: ClassVar[str]
    benchmarked_goal_m: ClassVar[float]

    def __init__(
        self,
        model: "PlannerModel",
        farthest_goal_m: float | None = None,
        arrival_m: float = 0.25,
        fear_threshold: float = 0.5,
        fearful_frames: int = 3,
        fear_distance_m: float = 0.5,
        fear_angle: float = 0.5,
        segmenter: Callable[[np.ndarray], np.ndarray] | None = None,
        as_benchmarked: bool = False,
        camera: CameraSpec | None = None,
        strict_camera: bool = False,
    ):
        name = type(self).__name__
        check_parts(name, model, [self.model_type], "none is needed")
        check_count("fearful_frames", fearful_frames)
        settings = {"arrival_m": arrival_m, "fear_threshold": fear_threshold}
        settings |= {"fear_distance_m": fear_distance_m, "fear_angle": fear_angle}
        check_numbers(0, farthest_goal_m=farthest_goal_m, **settings)
        _check_settings(farthest_goal_m, fear_threshold, segmenter)
        self.model = model.eval()
        self.farthest_goal_m = farthest_goal_m or self.benchmarked_goal_m
        self.arrival_m = arrival_m
        self.fear_threshold = fear_threshold
        self.fearful_frames = fearful_frames
        self.fear_distance_m = fear_distance_m
        self.fear_angle = fear_angle
        self.segmenter = segmenter
        self.as_benchmarked = as_benchmarked
        self.contract = CameraContract(name, self.cameras, camera, strict_camera)
        self.reset()

    @classmethod
    def from_pretrained(cls, path, **kwargs):
        """See `Policy`."""
        return open_policy(cls, cls.model_type, path, kwargs)

    @property
    def goal_kinds(self) -> tuple[str, ...]:
        """Points."""
        return ("point",)

    @property
    def needs_semantics(self) -> bool:
        """Whether observations need `semantics`."""
        return self.model.second_image == "semantics" and self.segmenter is None

    def start(self, name: str = "") -> PlannerEpisode:
        """A new episode of one robot; nothing is drawn, so `name` does not matter."""
        return PlannerEpisode()

    @torch.no_grad()
    def steps(
        self,
        episodes: Sequence[PlannerEpisode],
        observations: Sequence[dict[str, Any]],
        goals: Sequence[Goal],
    ) -> list[PlannerStep]:
        """The path of each robot, in one call of the model."""
        given = {"observations": observations, "goals": goals}
        checked_batch(self.contract.policy, PlannerEpisode, episodes, **given)
        if not len(episodes):
            return []
        pairs = enumerate(zip(observations, goals, strict=True))
        checked = [self._checked(*pair, len(goals), row) for row, pair in pairs]
        images, points = zip(*checked, strict=True)
        batch = {key: torch.stack([seen[key] for seen in images]) for key in images[0]}
        batch["goal_point"] = torch.stack([self._asked(point) for point in points])
        batch = {key: tensor.to(self.model.device) for key, tensor in batch.items()}
        path = self.model.predict(**batch)
        paths = path.waypoints[..., :2].cpu().numpy()
        fears = path.fear.sigmoid().tolist()
        return [self._step(*row) for row in zip(episodes, points, paths, fears, strict=True)]

    def _checked(
        self, observation: Any, goal: Any, count: int, row: int
    ) -> tuple[dict[str, Tensor], tuple[float, float]]:
        """Images as the model takes them, and the goal."""
        where = place_of(self.contract.policy, row, count)
        goal = checked_goal(goal, self.goal_kinds, where.replace("observation", "goal"))
        assert isinstance(goal, PointGoal)
        keys = ("rgb", "depth", *(("semantics",) if self.needs_semantics else ()))
        checked_keys(observation, where, keys, keys)
        rgb = checked_picture(observation["rgb"], f"{where}: rgb")
        depth = checked_depth(observation["depth"], f"{where}: depth", rgb)
        self.contract.check_views([("rgb", rgb)])
        self.contract.check_depth("depth", depth)
        size = (self.model.config.image_height, self.model.config.image_width)
        farthest = self.model.config.max_depth_m
        if self.as_benchmarked:
            depth, farthest = sent_depth(depth), BENCHMARKED_MAX_DEPTH_M
        images = {"depth": depth_view(depth, *size, farthest)}
        if self.model.second_image == "rgb":
            images["rgb"] = rgb_view(np.asarray(rgb), *size)
        elif self.model.second_image == "semantics":
            seen = observation["semantics"] if self.segmenter is None else self.segmenter(rgb)
            colours = np.asarray(checked_picture(seen, f"{where}: semantics"))
            images["semantics"] = semantic_view(self._known(colours), *size)
        return images, goal.xy

    def _known(self, colours: np.ndarray) -> np.ndarray:
        """`colours`, those of no class as the unknown class; that is reported once."""
        known, share = without_unknown_colours(colours, class_colours())
        if share > 0:
            found = f"{share:.0%} of the pixels in colours of no class"
            self.contract.tell_once("colours", f"semantics: found {found}; they count as unknown.")
        return known

    def _asked(self, point: tuple[float, float]) -> Tensor:
        """(3,) the goal as the model takes it."""
        xy, most = np.array(point), self.farthest_goal_m
        if self.as_benchmarked:
            return torch.tensor([*xy.clip(-most, most), BENCHMARKED_GOAL_HEIGHT_M]).float()
        xy = xy * min(1.0, most / max(float(np.hypot(*xy)), 1e-9))
        return torch.tensor([*xy, 0.0]).float()

    def _step(
        self, episode: PlannerEpisode, point: tuple[float, float], path: np.ndarray, fear: float
    ) -> PlannerStep:
        is_fearful = fear > self.fear_threshold and self._leads_ahead(path)
        episode.feel(is_fearful, self.fearful_frames)
        stays = episode.is_afraid or np.hypot(*point) < self.arrival_m
        return PlannerStep(np.zeros_like(path) if stays else path, fear, episode.is_afraid)

    def _leads_ahead(self, path: np.ndarray) -> bool:
        distance, angle = np.hypot(*path.T), np.arctan2(path[:, 1], path[:, 0])
        is_ahead = (distance > self.fear_distance_m) & (np.abs(angle) < self.fear_angle)
        return bool(is_ahead.any())


class iPlannerPolicy(PlannerPolicy):
    """iPlanner; see `PlannerPolicy`."""

    model_type = iPlannerConfig.model_type
    benchmarked_goal_m = 5.0


class ViPlannerPolicy(PlannerPolicy):
    """ViPlanner; see `PlannerPolicy`."""

    model_type = ViPlannerConfig.model_type
    benchmarked_goal_m = 10.0


def _check_settings(farthest_goal_m: float | None, fear_threshold: float, segmenter: Any) -> None:
    if farthest_goal_m is not None and farthest_goal_m <= 0:
        raise ValueError(f"farthest_goal_m: found {farthest_goal_m}, expected metres, more than 0.")
    if not 0 <= fear_threshold <= 1:
        raise ValueError(f"fear_threshold: found {fear_threshold}, expected 0 to 1.")
    if segmenter is not None and not callable(segmenter):
        raise ValueError(f"segmenter: found {segmenter!r}, expected a function of a view.")
