"""GNM, ViNT and NoMaD at inference: from views and the view at a goal to a path.

Every call takes the current view of each robot and its goal: an image, a topological map (images
along a way, driven one after the other) or, for NoMaD, none to explore. All robots share the calls
of the model. The memory holds a robot's last views; before there are enough, the first repeats.

On a map a robot is at the node from which it seems nearest, of those within `window` of the last;
it drives to that node, or to the next if the node is near, which then stands for the last (not in
NoMaD).

Waypoints have no length: published deployments scale them by a robot's largest speed over its rate.

Legend: M memory frames, H horizon, N trajectories, K points of a path.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.interpolate import CubicHermiteSpline
from torch import Tensor

from internnav_hf.camera import CameraSpec
from internnav_hf.data.tasks.image_goal_targets import sized
from internnav_hf.models.gnm.config import GNMConfig, NoMaDConfig, ViNTConfig
from internnav_hf.policies import benchmarked
from internnav_hf.policies.camera_contract import CameraContract
from internnav_hf.policies.episodes import (
    check_count,
    check_numbers,
    episode_generator,
    undone_on_error,
)
from internnav_hf.policies.goals import Goal, MapGoal, NoGoal, checked_goal
from internnav_hf.policies.loading import open_policy
from internnav_hf.policies.observations import (
    as_image,
    check_parts,
    checked_batch,
    checked_keys,
    checked_picture,
    place_of,
)
from internnav_hf.policies.policy import DrivenPath, GoalPolicy

if TYPE_CHECKING:
    from internnav_hf.models.gnm.base import ImageGoalModel

POINTS_PER_WAYPOINT = 10


@dataclass(frozen=True)
class ImageGoalStep(DrivenPath):
    """The next path, in metres in the robot's current frame: x forward, y left.

    `path` (K, 2) begins at (0, 0), and stays there if the robot has arrived. `distance` is that to
    the goal or, on a map, to the node that the robot is at, in frames of the training. `node` is
    that node, None without a map. `trajectories` (N, K, 2) are all samples of NoMaD, the followed
    one first.
    """

    distance: float
    node: int | None = None
    trajectories: np.ndarray | None = None
    values: None = None


@dataclass
class ImageGoalEpisode:
    """The policy's memory of one robot; newest frame last. `nodes` are the prepared images of
    `map_images`, the map that it drives along, `node` is its place there.
    """

    generator: torch.Generator
    frames: deque[Tensor]
    map_images: Sequence[Any] | None = None
    nodes: tuple[Tensor, ...] = ()
    node: int = 0


class _Request(NamedTuple):
    """`images` (R, 3, h, w) to which a robot asks the distance, of which the first is node `first`
    of a map and the last its end if `has_end`; hidden ones to explore.
    """

    images: Tensor
    first: int = 0
    is_map: bool = False
    has_end: bool = True
    is_hidden: bool = False


class GNMPolicy(GoalPolicy):
    """See the module; for one robot (`reset`, `act`) or many (`start`, `steps`, `observe`).

    An observation has `rgb` (H, W, 3) uint8. Settings:

        step_m: metres of a waypoint's unit. By default the training's (the mean of several data
            sets), or if it is not known 0.8 m/s over 3 Hz as in NavDP's benchmark. Published
            robots: 0.2 m/s over 4 Hz.
        stop_distance: a goal predicted to be no farther counts as reached; in frames. NavDP's
            benchmark: 7.
        window: nodes of a map before and after the last one at which a robot may be. Published: 4.
        node_distance: a node predicted to be nearer is passed. Published: 3.
        memory_stride: number of frames from one frame of the memory to the next.
        seed: determines, with the name of an episode, its random numbers.
        as_benchmarked: as NavDP's servers: 0.8 m/s over 3 Hz, a stop distance of 7, views resized
            without a crop. GNM and ViNT explore towards an image of noise.
        camera: the robot's. Differences from the training's (`cameras`) are reported once.
        strict_camera: such a difference is a ValueError.

    An invalid observation or goal is a ValueError that changes nothing for any robot.
    """

    config_class: type = GNMConfig
    needs_depth = False
    remembers_views = True
    leaves_nodes: ClassVar[bool] = True
    """Whether a robot that is near a node of a map is looked for around the next from then on."""

    def __init__(
        self,
        model: "ImageGoalModel",
        step_m: float | None = None,
        stop_distance: float = 3.0,
        window: int = 4,
        node_distance: float = 3.0,
        memory_stride: int = 1,
        seed: int = 0,
        as_benchmarked: bool = False,
        camera: CameraSpec | None = None,
        strict_camera: bool = False,
    ):
        name = type(self).__name__
        check_parts(name, model, [self.config_class.model_type], "none is needed")
        check_count("window", window)
        check_count("memory_stride", memory_stride)
        distances = {"stop_distance": stop_distance, "node_distance": node_distance}
        if None in distances.values():
            raise ValueError(f"{', '.join(distances)}: found None, expected frames.")
        check_numbers(seed, step_m=step_m, **distances)
        if step_m is not None and step_m <= 0:
            raise ValueError(f"step_m: found {step_m!r}, expected metres, more than 0.")
        self.model = model.eval()
        self.step_m = _trained_step(model.config.waypoint_spacing_m) if step_m is None else step_m
        self.stop_distance, self.node_distance = stop_distance, node_distance
        self.as_benchmarked = as_benchmarked
        if as_benchmarked:
            self.step_m, self.stop_distance = benchmarked.STEP_M, benchmarked.STOP_DISTANCE
        self.window, self.memory_stride, self.seed = window, memory_stride, seed
        self.contract = CameraContract(name, self.cameras, camera, strict_camera)
        self.reset()

    @classmethod
    def from_pretrained(cls, path, **kwargs):
        """See `Policy`."""
        return open_policy(cls, cls.config_class.model_type, path, kwargs)

    @property
    def goal_kinds(self) -> tuple[str, ...]:
        """Images and maps; as benchmarked also none."""
        return ("image", "map", "none") if self.as_benchmarked else ("image", "map")

    def start(self, name: str = "") -> ImageGoalEpisode:
        """A new episode; `name` seeds its random numbers, together with `seed`."""
        length = (self.model.config.num_memory_frames - 1) * self.memory_stride + 1
        return ImageGoalEpisode(episode_generator(self.seed, name), deque(maxlen=length))

    def observe(self, episode: ImageGoalEpisode, observation: dict[str, Any]) -> None:
        """Add a frame between two plans."""
        where = self.contract.policy
        checked_batch(where, ImageGoalEpisode, [episode])
        episode.frames.append(self._seen(observation, place_of(where, 0, 1)))

    @torch.no_grad()
    def steps(
        self,
        episodes: Sequence[ImageGoalEpisode],
        observations: Sequence[dict[str, Any]],
        goals: Sequence[Goal],
        observed: bool = False,
    ) -> list[ImageGoalStep]:
        """The path of each robot. `observed`: whether these observations were already passed to
        `observe`; they are then not looked at.

        Raises ValueError for an observation without colours, for an invalid goal, and for goals of
        a kind that the model does not drive to.
        """
        given = {"observations": observations, "goals": goals}
        checked_batch(self.contract.policy, ImageGoalEpisode, episodes, **given)
        if not len(episodes):
            return []
        seen, checked = [], []
        for row, (observation, goal) in enumerate(zip(observations, goals, strict=True)):
            where = place_of(self.contract.policy, row, len(goals))
            at_goal = where.replace("observation", "goal")
            checked.append(checked_goal(goal, self.goal_kinds, at_goal))
            if not observed:
                seen.append(self._seen(observation, where))
            elif not episodes[row].frames:
                raise ValueError(f"{where}: found observed=True, but `observe` has seen no frame.")
        with undone_on_error(episodes):
            for episode, view in zip(episodes, seen, strict=False):
                episode.frames.append(view)
            requests = [self._request(*row) for row in zip(episodes, checked, goals, strict=True)]
            return self._answered(episodes, requests)

    def _seen(self, observation: Any, where: str) -> Tensor:
        """The model's input (3, h, w) uint8."""
        checked_keys(observation, where, ("rgb",), ("rgb",))
        picture = checked_picture(observation["rgb"], f"{where}: rgb")
        self.contract.check_views([("rgb", picture)])
        return self._prepared(picture)

    def _prepared(self, picture: Any) -> Tensor:
        config = self.model.config
        size = config.image_width, config.image_height
        is_cropped = config.crop_images and not self.as_benchmarked
        return torch.from_numpy(sized(as_image(picture), size, is_cropped))

    def _request(self, episode: ImageGoalEpisode, goal: Goal, given: Goal) -> _Request:
        """What to ask the model. `goal` is `given`, checked; a map that is not the last one begins
        at its first node.
        """
        if isinstance(goal, NoGoal):
            return self._exploring(episode)
        if not isinstance(goal, MapGoal):
            return _Request(self._prepared(goal.image)[None])
        if episode.map_images is not given.images:
            episode.map_images, episode.node = given.images, 0
            episode.nodes = tuple(map(self._prepared, goal.images))
        first, last = max(episode.node - self.window, 0), episode.node + self.window + 2
        has_end = last >= len(episode.nodes)
        return _Request(torch.stack(episode.nodes[first:last]), first, True, has_end)

    def _exploring(self, episode: ImageGoalEpisode) -> _Request:
        """What to ask without a goal."""
        shape = tuple(episode.frames[-1].shape)
        return _Request(benchmarked.noise_image(shape, episode.generator)[None])

    def _memory(self, episodes: Sequence[ImageGoalEpisode]) -> Tensor:
        """(robots, M, 3, h, w), the current frame last."""
        num_frames, memories = self.model.config.num_memory_frames, []
        for episode in episodes:
            seen = list(episode.frames)[:: -self.memory_stride][::-1]
            memories.append(torch.stack([seen[0]] * (num_frames - len(seen)) + seen))
        return torch.stack(memories).to(self.model.device)

    def _answered(
        self, episodes: Sequence[ImageGoalEpisode], requests: Sequence[_Request]
    ) -> list[ImageGoalStep]:
        """One call of the model for all images of all robots; another for NoMaD's trajectories."""
        counts = [len(request.images) for request in requests]
        robots = torch.arange(len(requests)).repeat_interleave(torch.tensor(counts))
        shown = torch.tensor([not request.is_hidden for request in requests])[robots]
        images = torch.cat([request.images for request in requests]).to(self.model.device)
        rgb = self._memory(episodes)
        seen, distance = self._measure(rgb, robots, images, shown)
        places, near, start = [], [], 0
        for request, part in zip(requests, distance.cpu().split(counts), strict=True):
            nearest = int(part.argmin())
            goes_on = request.is_map and float(part[nearest]) <= self.node_distance
            places.append(start + min(nearest + goes_on, len(part) - 1))
            near.append((nearest, float(part[nearest]), goes_on))
            start += len(part)
        waypoints = self._waypoints(seen, places, episodes).float().cpu().numpy()
        rows = zip(episodes, requests, near, waypoints, strict=True)
        return [self._step(*row) for row in rows]

    def _measure(
        self, rgb: Tensor, robots: Tensor, images: Tensor, shown: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What `_waypoints` needs, and the distance (R,) of each of `images` (R, 3, h, w) from the
        view of its robot; `robots` (R,) are rows of `rgb` (robots, M, 3, h, w).
        """
        model: Any = self.model
        return model.predict(rgb[robots], images, model.read(rgb)[robots])

    def _waypoints(
        self, seen: Tensor, places: list[int], episodes: Sequence[ImageGoalEpisode]
    ) -> Tensor:
        """(robots, N, H, 2 or more) to the images at `places`."""
        return seen[places][:, None]

    def _step(
        self,
        episode: ImageGoalEpisode,
        request: _Request,
        near: tuple[int, float, bool],
        waypoints: np.ndarray,
    ) -> ImageGoalStep:
        """The path along `waypoints` (N, H, 2 or more), or to stay if the goal is reached."""
        nearest, distance, goes_on = near
        is_at_end = request.has_end and nearest == len(request.images) - 1
        trajectories = smoothed(waypoints[..., :2] * self.step_m)
        if is_at_end and not request.is_hidden and distance <= self.stop_distance:
            trajectories = np.zeros_like(trajectories)
        node = request.first + nearest
        if request.is_map:
            episode.node = min(node + (goes_on and self.leaves_nodes), len(episode.nodes) - 1)
        return ImageGoalStep(
            trajectories[0],
            np.inf if request.is_hidden else distance,
            node if request.is_map else None,
            trajectories if len(trajectories) > 1 else None,
        )


class ViNTPolicy(GNMPolicy):
    """As `GNMPolicy`."""

    config_class = ViNTConfig


class NoMaDPolicy(GNMPolicy):
    """As `GNMPolicy`; explores, too. More settings:

    num_samples: trajectories that are drawn, of which the first is followed, as published.
    hides_goal: whether the goal is hidden while its distance is seen, as NavDP's benchmark
        does by mistake; always if `as_benchmarked`.
    """

    config_class = NoMaDConfig
    leaves_nodes = False

    def __init__(
        self,
        model: "ImageGoalModel",
        num_samples: int = 8,
        hides_goal: bool = False,
        **settings: Any,
    ):
        check_count("num_samples", num_samples)
        super().__init__(model, **settings)
        self.num_samples, self.hides_goal = num_samples, hides_goal or self.as_benchmarked

    @property
    def goal_kinds(self) -> tuple[str, ...]:
        """Images, maps, and none to explore."""
        return ("image", "map", "none")

    def _exploring(self, episode: ImageGoalEpisode) -> _Request:
        return _Request(torch.zeros_like(episode.frames[-1])[None], is_hidden=True)

    def _measure(
        self, rgb: Tensor, robots: Tensor, images: Tensor, shown: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Conditions in place of waypoints."""
        model: Any = self.model
        views, memory, shown = rgb[robots], model.read(rgb)[robots], shown.to(rgb.device)
        condition = model.condition(views, images, shown, memory)
        distance = model.distance(condition)
        if self.hides_goal:
            condition = model.condition(views, images, torch.zeros_like(shown), memory)
        return condition, distance

    def _waypoints(
        self, seen: Tensor, places: list[int], episodes: Sequence[ImageGoalEpisode]
    ) -> Tensor:
        model: Any = self.model
        generators = [episode.generator for episode in episodes]
        return model.denoise(seen[places], self.num_samples, generators)


def smoothed(waypoints: np.ndarray) -> np.ndarray:
    """(..., K, C) points along a cubic spline from the origin through `waypoints` (..., H, C), with
    the slopes of Catmull and Rom; the published form of a path.
    """
    points = np.concatenate([np.zeros_like(waypoints[..., :1, :]), waypoints], axis=-2)
    knots = np.arange(points.shape[-2])
    slopes = np.gradient(points, axis=-2)
    samples = np.linspace(0, knots[-1], POINTS_PER_WAYPOINT * knots[-1] + 1)
    spline = CubicHermiteSpline(knots, points, slopes, axis=-2)
    return np.asarray(spline(samples))


def _trained_step(spacing: float | dict[str, float] | None) -> float:
    if spacing is None:
        return benchmarked.STEP_M
    return float(np.mean(list(spacing.values()))) if isinstance(spacing, dict) else spacing
