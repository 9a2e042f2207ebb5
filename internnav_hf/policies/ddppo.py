"""DD-PPO's agent at inference: a view and a point in, the next small step out.

It goes 0.25 m ahead, turns 10 degrees or stops, or, with continuous actions, drives a short arc; it
remembers in its recurrent state, which every robot has for itself. A step is also told as a line of
20 points in its direction, for robots that follow paths, and as the motion that was meant, after
which it must see again. `as_benchmarked` follows NavDP's server instead, which has the line
followed, however far, forgets the state at every step, shows depth in metres, unscaled and with
walls at 6.55 m where nothing is, and cuts x and y of the goal apart.

Legend: L layers of the LSTM, C its width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from internnav_hf.camera import CameraSpec
from internnav_hf.geometry import robot_to_world, world_to_robot
from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.models.ddppo.views import polar, scaled_depth, sized_rgb
from internnav_hf.policies.benchmarked import sent_depth
from internnav_hf.policies.camera_contract import CameraContract
from internnav_hf.policies.episodes import check_numbers, episode_generator, undone_on_error
from internnav_hf.policies.goals import Goal, PointGoal, PositionGoal, checked_goal
from internnav_hf.policies.loading import open_policy
from internnav_hf.policies.observations import (
    check_parts,
    checked_batch,
    checked_depth,
    checked_keys,
    checked_picture,
    checked_pose,
    place_of,
)
from internnav_hf.policies.policy import DrivenPath, GoalPolicy

if TYPE_CHECKING:
    from internnav_hf.models.ddppo.model import DDPPOModel

STOP, FORWARD, LEFT, RIGHT = range(4)
BENCHMARKED_GOAL_M = 5.0
VLFM_GOAL_MOVE_M = 0.1
NUM_POINTS = 20
_ENDS = {STOP: (0.0, 0.0), FORWARD: (1.0, 0.0), LEFT: (0.0, 1.0), RIGHT: (0.0, -1.0)}


@dataclass(frozen=True)
class DDPPOStep(DrivenPath):
    """`action` is 0 stop, 1 forward, 2 left, 3 right, or the numbers of a continuous action, in
    -1..1: forward and left as shares of the configuration's `forward_step_m` and `turn_angle_deg`.
    `path` (20, 2) leads there, in metres in the robot's frame, from (0, 0), where it stays to stop;
    it goes on beyond the step, which is `motion`, metres ahead and radians to the left; None as
    benchmarked. `value` estimates the return, None without that head.
    """

    action: int | tuple[float, ...]
    value: float | None = None
    motion: tuple[float, float] | None = None
    trajectories: None = None
    values: None = None


@dataclass
class DDPPOEpisode:
    """The policy's memory of one robot: `state` (2 * L, C) and the last action, None before the
    first step, and where in the world the goal was, if that is known.
    """

    generator: torch.Generator
    state: Tensor | None = None
    previous_action: Tensor | None = None
    goal_position: np.ndarray | None = None


@dataclass(frozen=True)
class _Seen:
    """Inputs of one robot: views of the model's size, the goal in the robot's frame, and its place
    in the world, None if it is not known.
    """

    views: dict[str, Tensor]
    xy: tuple[float, float]
    position: np.ndarray | None


class DDPPOPolicy(GoalPolicy):
    """See the module; for one robot (`reset`, `act`) or many (`start`, `steps`).

    An observation has `rgb` (H, W, 3) uint8 and `depth` (H, W) in metres, and `pose` (x, y, yaw)
    for goals by position and for `goal_move_m`. Settings:

        sample_actions: whether actions are drawn, as in the published evaluation, or the likeliest
            is taken, as VLFM does.
        seed: determines, with the name of an episode, what is drawn.
        goal_move_m: a goal that has moved farther in the world than this since the last step starts
            the state afresh; None for never. VLFM: 0.1 m.
        as_benchmarked: as NavDP's server did, see the module; it draws actions.
        camera: the robot's. Differences from the training's (`cameras`) are reported once.
        strict_camera: such a difference is a ValueError.
    """

    def __init__(
        self,
        model: "DDPPOModel",
        sample_actions: bool = True,
        seed: int = 0,
        goal_move_m: float | None = None,
        as_benchmarked: bool = False,
        camera: CameraSpec | None = None,
        strict_camera: bool = False,
    ):
        name = type(self).__name__
        check_parts(name, model, [DDPPOConfig.model_type], "none is needed")
        check_numbers(seed, goal_move_m=goal_move_m)
        self.model = model.eval()
        self.sample_actions = sample_actions or as_benchmarked
        self.seed, self.goal_move_m = seed, goal_move_m
        self.as_benchmarked = as_benchmarked
        self.contract = CameraContract(name, self.cameras, camera, strict_camera)
        self.reset()

    @classmethod
    def from_pretrained(cls, path, **kwargs) -> "DDPPOPolicy":
        """See `Policy`."""
        return open_policy(cls, DDPPOConfig.model_type, path, kwargs)

    @property
    def goal_kinds(self) -> tuple[str, ...]:
        """Points, in the robot's frame or in the world."""
        return ("point", "position")

    def start(self, name: str = "") -> DDPPOEpisode:
        """A new episode; `name` seeds its random numbers, together with `seed`."""
        return DDPPOEpisode(episode_generator(self.seed, name))

    @torch.no_grad()
    def steps(
        self,
        episodes: Sequence[DDPPOEpisode],
        observations: Sequence[dict[str, Any]],
        goals: Sequence[Goal],
    ) -> list[DDPPOStep]:
        """The next step of each robot, in one call of the model.

        Raises ValueError for an observation without colours or depth, with depth that is not in
        metres, without a pose where one is needed, and for goals of other kinds.
        """
        given = {"observations": observations, "goals": goals}
        checked_batch(self.contract.policy, DDPPOEpisode, episodes, **given)
        if not len(episodes):
            return []
        pairs = enumerate(zip(observations, goals, strict=True))
        seen = [self._checked(*pair, len(goals), row) for row, pair in pairs]
        with undone_on_error(episodes):
            for episode, one in zip(episodes, seen, strict=True):
                self._forget(episode, one.position)
            return self._answered(episodes, seen)

    def _checked(self, observation: Any, goal: Any, count: int, row: int) -> _Seen:
        where = place_of(self.contract.policy, row, count)
        goal = checked_goal(goal, self.goal_kinds, where.replace("observation", "goal"))
        assert isinstance(goal, PointGoal | PositionGoal)
        needs_pose = isinstance(goal, PositionGoal) or self.goal_move_m is not None
        keys = ("rgb", "depth", *(("pose",) if needs_pose else ()))
        checked_keys(observation, where, keys, keys)
        rgb = checked_picture(observation["rgb"], f"{where}: rgb")
        depth = checked_depth(observation["depth"], f"{where}: depth", rgb)
        self.contract.check_views([("rgb", rgb)])
        self.contract.check_depth("depth", depth)
        xy, position = goal.xy, None
        if needs_pose:
            pose = checked_pose(observation["pose"], f"{where}: pose")
            position = np.array(goal.xy)
            if isinstance(goal, PositionGoal):
                x, y = world_to_robot(position, pose)
                xy = float(x), float(y)
            else:
                position = robot_to_world(position, pose)
        views = {}
        if "depth" in self.model.config.views:
            depth = sent_depth(depth) if self.as_benchmarked else depth
            views["depth"] = scaled_depth(depth, self.model.config, metres=self.as_benchmarked)
        if "rgb" in self.model.config.views:
            views["rgb"] = sized_rgb(np.asarray(rgb), self.model.config)
        return _Seen(views, xy, position)

    def _forget(self, episode: DDPPOEpisode, position: np.ndarray | None) -> None:
        """Start the state afresh if the goal has moved, or, as benchmarked, always."""
        before, episode.goal_position = episode.goal_position, position
        has_moved = (
            self.goal_move_m is not None
            and before is not None
            and position is not None
            and np.hypot(*(position - before)) > self.goal_move_m
        )
        if has_moved or self.as_benchmarked:
            episode.state = episode.previous_action = None

    def _answered(self, episodes: Sequence[DDPPOEpisode], seen: Sequence[_Seen]) -> list[DDPPOStep]:
        model, config = self.model, self.model.config
        state = torch.zeros(2 * config.num_recurrent_layers, config.hidden_size)
        none = torch.tensor(0) if config.is_discrete else torch.zeros(config.num_actions)
        pairs = [(one.state, one.previous_action) for one in episodes]
        batch = {name: torch.stack([one.views[name] for one in seen]) for name in config.views}
        batch["pointgoal"] = torch.tensor([polar(self._asked(one.xy)) for one in seen])
        batch["masks"] = torch.tensor([before is not None for before, _ in pairs])
        actions = [none if action is None else action for _, action in pairs]
        batch["previous_actions"] = torch.stack(actions)
        batch = {name: value[:, None].to(model.device) for name, value in batch.items()}
        states = [state.to(model.device) if before is None else before for before, _ in pairs]
        output = model(**batch, hidden_states=torch.stack(states))
        values = (
            [None] * len(seen)
            if output.state_values is None
            else output.state_values[:, 0].tolist()
        )
        steps, chosen = [], self._chosen(output.logits[:, 0], episodes)
        rows = zip(episodes, output.hidden_states, chosen, values, strict=True)
        for episode, after, action, value in rows:
            episode.state, episode.previous_action = after.clone(), action
            told = int(action) if config.is_discrete else tuple(action.tolist())
            motion = None if self.as_benchmarked else self._motion(told)
            steps.append(DDPPOStep(self._path(told), told, value, motion))
        return steps

    def _asked(self, xy: tuple[float, float]) -> tuple[float, float]:
        """The point as the model is asked for it."""
        if not self.as_benchmarked:
            return xy
        x, y = np.clip(xy, -BENCHMARKED_GOAL_M, BENCHMARKED_GOAL_M)
        return float(x), float(y)

    def _chosen(self, logits: Tensor, episodes: Sequence[DDPPOEpisode]) -> list[Tensor]:
        """The action of each robot, drawn with its own generator or the likeliest."""
        chances: Any = self.model.distribution(logits.cpu())
        if not self.sample_actions:
            return list(chances.mode)
        rows = [episode.generator for episode in episodes]
        if self.model.config.is_discrete:
            pairs = zip(chances.probs, rows, strict=True)
            return [torch.multinomial(one, 1, generator=drawn)[0] for one, drawn in pairs]
        pairs = zip(chances.mean, chances.stddev, rows, strict=True)
        drawn = [torch.normal(*row[:2], generator=row[2]) for row in pairs]
        return [one.clamp(-1, 1) for one in drawn]

    def _motion(self, action: int | tuple[float, ...]) -> tuple[float, float]:
        """Metres ahead and radians to the left."""
        config = self.model.config
        turn = float(np.radians(config.turn_angle_deg))
        ahead, left = _ENDS[action] if isinstance(action, int) else action
        return ahead * config.forward_step_m, left * turn

    def _path(self, action: int | tuple[float, ...]) -> np.ndarray:
        """(20, 2) the line of an action, at most 1 m long; an arc's for a continuous one."""
        shares = np.linspace(0, 1, NUM_POINTS)
        if isinstance(action, int):
            return shares[:, None] * np.array(_ENDS[action])
        ahead, turn = self._motion(action)
        if abs(turn) > abs(ahead):  # as good as on the spot
            return shares[:, None] * np.array([0.0, np.sign(turn)])
        turns = shares * turn
        chord = shares * ahead * np.sinc(turns / 2 / np.pi)
        return np.stack([chord * np.cos(turns / 2), chord * np.sin(turns / 2)], axis=1)
