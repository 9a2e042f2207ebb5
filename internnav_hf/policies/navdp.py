"""NavDP at inference: from views and a goal to the trajectory with the critic's highest value.

Every call takes the current view of each robot and its goal, and gives one plan: all robots share
one call of the model, whatever their goals are. The memory holds the robot's last frames, from
`steps` when it plans and from `observe` while it drives; features of a frame are cached, so that
only new frames are encoded. Frames from before the start are black, as in training.

The rules of the NavDP repository's agent turn samples into plans; they are settings here, and with
them all its five tasks give its trajectories and values (goldens). Differs from there:

* Its memory holds the last calls, ours every `memory_stride`-th frame, which is the same by
  default. In training, frames are about 0.25 m apart: if a robot's frames are closer, a larger
  stride matches the training.
* If the critic trusts no trajectory, a robot turns to the side of its own two best ones, not to
  that of all robots in the batch.

A point goal has no heading; as there, the model gets 0, that of a straight path. It also gets at
most 10 m ahead or to a side, and no place behind: a robot whose goal is behind turns to it.

Legend: N trajectories, H horizon, M memory frames, P patch tokens, C width, S image size.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import CONFIG_NAME

from internnav_hf.camera import CameraSpec
from internnav_hf.models.navdp.config import NavDPConfig
from internnav_hf.models.navdp.letterbox import goal_mask, letterbox, letterbox_depth
from internnav_hf.policies.camera_contract import CameraContract
from internnav_hf.policies.episodes import (
    check_count,
    check_numbers,
    episode_generator,
    undone_on_error,
)
from internnav_hf.policies.goals import Goal, PointGoal, PointImageGoal, checked_goal
from internnav_hf.policies.loading import open_policy
from internnav_hf.policies.observations import (
    Frame,
    check_parts,
    checked_batch,
    checked_depth,
    checked_keys,
    checked_picture,
    place_of,
    size_of,
)
from internnav_hf.policies.policy import DrivenPath, GoalPolicy
from internnav_hf.policies.seen_clearance import free_shares, seen_from
from internnav_hf.weights.weight_files import read_json

if TYPE_CHECKING:
    from internnav_hf.models.navdp.model import NavDPModel

FARTHEST_POINT_M = 10.0  # a point goal lies within 0..10 m ahead and 10 m to either side
EXPLORATION_PENALTY = 10.0
CONTACT_PENALTY = 10.0  # for a path that touches something at once


@dataclass(frozen=True)
class NavDPStep(DrivenPath):
    """The next path, in metres in the robot's current frame: x forward, y left.

    `path` (H + 1, 2) begins at (0, 0); it stays there if the robot has arrived (`is_stop`).
    `trajectories` (N, H + 1, 2) are all samples, the best first, and `values` (N,) the critic's.
    `turn` is 1 or -1 if the critic trusts none of them, or the goal is behind: then the path only
    points to the left or to the right; the robot should not follow it, but turn and look again.
    """

    trajectories: np.ndarray
    values: np.ndarray
    turn: int = 0


@dataclass
class _Frame:
    """An input frame (3, S, S) uint8 of the model; its `tokens` (P, C) once they are needed."""

    rgb: Tensor
    tokens: Tensor | None = None


@dataclass
class NavDPEpisode:
    """The policy's memory of one robot, made by `NavDPPolicy.start`; newest frame last."""

    generator: torch.Generator
    frames: deque[_Frame]


class NavDPPolicy(GoalPolicy):
    """See the module; for one robot (`reset`, `act`) or many (`start`, `steps`, `observe`).

    An observation has `rgb` (H, W, 3) uint8 and `depth` (H, W) in metres. Settings:

        num_samples: trajectories to choose from. NavDP repository: 16.
        num_inference_steps: diffusion steps; by default as many as in training.
        seed: determines, with the name of an episode, its noise, whatever runs in the same batch.
        memory_stride: number of frames from one frame of the memory to the next.
        shortest_path_m: a trajectory that ends nearer to the robot than this counts as having
            arrived: it stays where the robot is. Not for exploration. NavDP repository: 0.5 m.
        shortest_exploration_m: without a goal, such trajectories lose 10 of their value instead.
            NavDP repository: 1 m.
        stop_threshold: if no value reaches it, the robot turns to the side to which the best
            trajectories go. In the NavDP repository each client sends one; by default there is
            none.
        seen_clearance: trajectories that come nearer than this to what the depth image shows lose
            up to 10 of their value, the more the earlier they do. Not published: by default the
            critic alone decides.
        camera: the robot's. Differences from the training's (`cameras`) are reported once.
        strict_camera: such a difference is a ValueError.

    A new policy has begun its first episode.
    """

    remembers_views = True

    def __init__(
        self,
        model: "NavDPModel",
        num_samples: int = 16,
        num_inference_steps: int | None = None,
        seed: int = 0,
        memory_stride: int = 1,
        shortest_path_m: float = 0.5,
        shortest_exploration_m: float = 1.0,
        stop_threshold: float | None = None,
        seen_clearance: float | None = None,
        camera: CameraSpec | None = None,
        strict_camera: bool = False,
    ):
        check_parts(type(self).__name__, model, [NavDPConfig.model_type], "none is needed")
        check_count("num_samples", num_samples)
        check_count("memory_stride", memory_stride)
        if num_inference_steps is not None:
            most = model.config.num_diffusion_steps
            check_count("num_inference_steps", num_inference_steps, most)
        lengths = {"shortest_path_m": shortest_path_m}
        lengths["shortest_exploration_m"] = shortest_exploration_m
        if None in lengths.values():
            raise ValueError(f"{', '.join(lengths)}: found None, expected metres; 0 is no limit.")
        limits = {"stop_threshold": stop_threshold, "seen_clearance": seen_clearance}
        check_numbers(seed, **limits, **lengths)
        self.model = model.eval()
        self.num_samples, self.num_inference_steps = num_samples, num_inference_steps
        self.seed, self.memory_stride = seed, memory_stride
        self.shortest_path_m = shortest_path_m
        self.shortest_exploration_m = shortest_exploration_m
        self.stop_threshold, self.seen_clearance = stop_threshold, seen_clearance
        name = type(self).__name__
        self.contract = CameraContract(name, self.cameras, camera, strict_camera)
        self._camera = camera or self.camera
        if seen_clearance is not None and self._camera is None:
            raise ValueError(f"{name}: seen_clearance needs camera: the model does not store one.")
        size = model.config.image_size
        self._black = _Frame(torch.zeros(3, size, size, dtype=torch.uint8))
        self.reset()

    @classmethod
    def from_pretrained(cls, path, **kwargs) -> "NavDPPolicy":
        """Load from a folder, Hub repository or released file.

        `kwargs` are settings of the policy and arguments of the model's loading. Raises ValueError
        for a folder with another model.
        """
        config = Path(path, CONFIG_NAME)
        stored = read_json(config) if config.exists() else {}
        found, expected = stored.get("model_type"), NavDPConfig.model_type
        if found not in (None, expected):
            raise ValueError(f"{path}: found a model of type {found!r}, expected {expected!r}.")
        return open_policy(cls, expected, path, kwargs)

    @property
    def goal_kinds(self) -> tuple[str, ...]:
        """Kinds of goals that the model was trained for."""
        return tuple(self.model.config.goal_kinds)

    def start(self, name: str = "") -> NavDPEpisode:
        """A new episode; `name` seeds its random numbers, together with `seed`."""
        length = (self.model.config.num_memory_frames - 1) * self.memory_stride + 1
        return NavDPEpisode(episode_generator(self.seed, name), deque(maxlen=length))

    def observe(self, episode: NavDPEpisode, observation: dict[str, Any]) -> None:
        """Add a frame between two plans."""
        where = self.contract.policy
        checked_batch(where, NavDPEpisode, [episode])
        seen = self._checked(observation, place_of(where, 0, 1), ("rgb",))
        episode.frames.append(_Frame(self._seen(seen["rgb"])))

    @torch.no_grad()
    def steps(
        self,
        episodes: Sequence[NavDPEpisode],
        observations: Sequence[dict[str, Any]],
        goals: Sequence[Goal],
        observed: bool = False,
    ) -> list[NavDPStep]:
        """The path of each robot, in one call of the model.

        `observed`: whether these observations were already passed to `observe`.
        Raises ValueError for an observation without depth, with depth that is not in metres or not
        of the colour view's shape, for an invalid goal, and for goals of a kind that the model was
        not trained for.
        """
        given = {"observations": observations, "goals": goals}
        checked_batch(self.contract.policy, NavDPEpisode, episodes, **given)
        if not len(episodes):
            return []
        seen, goals = self._checked_batch(episodes, observations, goals, observed)
        with undone_on_error(episodes):
            return self._answered(episodes, seen, goals, observed)

    def _answered(
        self,
        episodes: Sequence[NavDPEpisode],
        seen: list[dict[str, Any]],
        goals: list[Goal],
        observed: bool,
    ) -> list[NavDPStep]:
        size = self.model.config.image_size
        depth = torch.stack([letterbox_depth(view["depth"], size) for view in seen])
        if not observed:
            for episode, view in zip(episodes, seen, strict=True):
                episode.frames.append(_Frame(self._seen(view["rgb"])))
        current = [episode.frames[-1].rgb for episode in episodes]
        samples = self.model.sample(
            [self._asked(*row) for row in zip(goals, seen, current, strict=True)],
            depth=depth.to(self.model.device),
            rgb_tokens=self._memory(episodes),
            num_samples=self.num_samples,
            generator=[episode.generator for episode in episodes],
            num_inference_steps=self.num_inference_steps,
        )
        drawn = (samples.trajectories[..., :2], samples.values)
        paths, values = (tensor.float().cpu().numpy() for tensor in drawn)
        if self.seen_clearance is not None:
            depths = [view["depth"] for view in seen]
            values = values - np.stack([*map(self._contact_penalties, depths, paths)])
        return [self._step(*row) for row in zip(goals, paths, values, strict=True)]

    def _checked_batch(
        self, episodes: Sequence, observations: Sequence, goals: Sequence, observed: bool
    ) -> tuple[list[dict[str, Any]], list[Goal]]:
        """Views and goals, checked."""
        seen, checked, count = [], [], len(episodes)
        for row, (observation, goal) in enumerate(zip(observations, goals, strict=True)):
            where, kinds = place_of(self.contract.policy, row, count), self.goal_kinds
            checked.append(checked_goal(goal, kinds, where.replace("observation", "goal")))
            marks_this_view = goal.kind == "pixel" and goal.view is None
            needed = ("depth",) if observed and not marks_this_view else ("rgb", "depth")
            seen.append(self._checked(observation, where, needed))
            if observed and not episodes[row].frames:
                raise ValueError(f"{where}: found observed=True, but `observe` has seen no frame.")
        return seen, checked

    def _checked(self, observation: Any, where: str, needed: Sequence[str]) -> dict[str, Any]:
        """`rgb` and `depth`: those that are `needed`, and `rgb` if it is given."""
        checked_keys(observation, where, needed, ("rgb", "depth") if "depth" in needed else needed)
        seen: dict[str, Any] = {}
        if observation.get("rgb") is not None:
            seen["rgb"] = checked_picture(observation["rgb"], f"{where}: rgb")
            self.contract.check_views([("rgb", seen["rgb"])])
        if "depth" in needed:
            depth = checked_depth(observation["depth"], f"{where}: depth", seen.get("rgb"))
            self.contract.check_depth("depth", depth)
            seen["depth"] = depth
        return seen

    def _seen(self, picture: Frame) -> Tensor:
        """The model's input (3, S, S) uint8, in its channel order."""
        rgb = letterbox(np.asarray(picture), self.model.config.image_size)
        return rgb.flip(0) if self.model.config.channel_order == "bgr" else rgb

    def _asked(self, goal: Goal, observation: dict[str, Any], current: Tensor) -> dict[str, Tensor]:
        """A goal as `NavDPModel.sample` takes it; `current` (3, S, S) is the current view."""
        asked, kinds = {}, goal.kind.split("+")
        if "point" in kinds:
            x = min(max(goal.xy[0], 0.0), FARTHEST_POINT_M)
            y = min(max(goal.xy[1], -FARTHEST_POINT_M), FARTHEST_POINT_M)
            asked["point"] = torch.tensor([x, y, 0.0])
        if "image" in kinds:
            asked["image"] = torch.cat([self._seen(goal.image), current])
        if "pixel" in kinds:
            marked = observation["rgb"] if goal.view is None else goal.view
            view = current if goal.view is None else self._seen(goal.view)
            mask = goal_mask(goal.pixel, size_of(marked)[::-1], view.shape[-1])
            seen = [current] if self.model.config.num_pixel_goal_channels == 7 else []
            asked["pixel"] = torch.cat([view, mask[None], *seen])
        return {name: tensor.to(self.model.device) for name, tensor in asked.items()}

    def _memory(self, episodes: Sequence[NavDPEpisode]) -> Tensor:
        """(B, M, P, C), the current frame last; encodes the frames that are new."""
        num_frames, memories = self.model.config.num_memory_frames, []
        for episode in episodes:
            seen = list(episode.frames)[:: -self.memory_stride][::-1]
            memories.append([self._black] * (num_frames - len(seen)) + seen)
        remembered = {id(frame): frame for memory in memories for frame in memory}
        new = [frame for frame in remembered.values() if frame.tokens is None]
        if new:
            rgb = torch.stack([frame.rgb for frame in new]).to(self.model.device)
            for frame, tokens in zip(new, self.model.encode_rgb(rgb), strict=True):
                frame.tokens = tokens.clone()  # else the whole batch stays in memory
        return torch.stack([_tokens(memory) for memory in memories])

    def _step(self, goal: Goal, trajectories: np.ndarray, values: np.ndarray) -> NavDPStep:
        """Apply the rules to `trajectories` (N, H, 2), which lack the origin."""
        trajectories, values = self._ruled(goal, trajectories, values)
        trajectories = np.pad(trajectories, ((0, 0), (1, 0), (0, 0)))
        turn, path = self._turn(trajectories, values), trajectories[0]
        if not turn and not path.any() and self._is_behind(goal):
            turn = -1 if goal.xy[1] < 0 else 1
        if turn:
            path = np.zeros_like(path)
            path[1:, 1] = turn
        return NavDPStep(path, trajectories, values, turn)

    def _contact_penalties(self, depth: np.ndarray, trajectories: np.ndarray) -> np.ndarray:
        """(N,) what `trajectories` (N, H, 2) lose for what they touch in `depth`."""
        camera, clearance_m = self._camera, self.seen_clearance
        assert camera is not None
        assert clearance_m is not None
        paths = np.pad(trajectories, ((0, 0), (1, 0), (0, 0)))
        free = free_shares(paths, seen_from(depth, camera), clearance_m)
        return (CONTACT_PENALTY * (1 - free)).astype(np.float32)

    def _ruled(
        self, goal: Goal, trajectories: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Short trajectories stay in place or, exploring, lose value; the best come first."""
        ends = np.linalg.norm(trajectories[:, -1], axis=-1)
        if goal.kind == "none":
            too_short = (ends < self.shortest_exploration_m).astype(values.dtype)
            values = values - EXPLORATION_PENALTY * too_short
        else:
            trajectories = trajectories * (ends >= self.shortest_path_m)[:, None, None]
        order = np.argsort(-values, kind="stable")
        return trajectories[order], values[order]

    def _is_behind(self, goal: Goal) -> bool:
        """Whether `goal` is behind: the model clamps goals to x >= 0, so it would look reached."""
        if not isinstance(goal, PointGoal | PointImageGoal):
            return False
        x, y = goal.xy
        return bool(x < 0 and np.hypot(x, y) >= self.shortest_path_m)

    def _turn(self, trajectories: np.ndarray, values: np.ndarray) -> int:
        """1 left, -1 right, to the side of the two best; 0 if the critic trusts one of them."""
        if self.stop_threshold is None or values[0] >= self.stop_threshold:
            return 0
        return -1 if trajectories[:2, :, 1].mean() < 0 else 1


def _tokens(memory: list[_Frame]) -> Tensor:
    tokens = [frame.tokens for frame in memory if frame.tokens is not None]
    return torch.stack(tokens)
