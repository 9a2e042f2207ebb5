"""The dual system at inference: System2 decides and plans, the action expert follows the plan.

Every call is one step of each robot (the published asynchronous protocol, in lockstep):

* System2 runs when there is no plan, when the robot has taken `max_steps_per_plan` actions with it,
  or when the expert's path ends: no part of it leads forward.
* Turns and STOP come from System2. For a pixel goal the expert samples trajectories from the view
  of the decision and the current one, both look-down views; the mean of their paths becomes
  discrete actions, of which the first `actions_per_trajectory` are used.
* If the first path of a plan leads nowhere, or an answer has no usable content, the robot turns
  left once - this is never taken for STOP - and System2 runs again.

The caller passes every frame of the robot, to `act` when it needs new actions and to `observe`
while it executes the last ones; the number of frames is the number of actions taken. A robot that
follows trajectories itself calls `act` at each of them.

Legend: S samples, H horizon, Q query tokens, D width of System2, N tokens of a view, C channels.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from internnav_hf.camera import CameraSpec, resize_view
from internnav_hf.data.tasks.dual_system import LARGEST_DEPTH_M
from internnav_hf.geometry import Action
from internnav_hf.models.dual_system.action_expert import ActionExpert
from internnav_hf.models.dual_system.config import DualSystemConfig
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.models.system2.processor import System2Processor
from internnav_hf.policies.camera_contract import TWO_VIEWS, CameraContract
from internnav_hf.policies.decisions import Decision
from internnav_hf.policies.episodes import (
    FrameHistory,
    check_count,
    check_numbers,
    episode_generator,
    undone_on_error,
)
from internnav_hf.policies.loading import split_settings
from internnav_hf.policies.observations import (
    Frame,
    as_image,
    check_parts,
    checked_batch,
    checked_depth,
    checked_instruction,
    checked_keys,
    place_of,
)
from internnav_hf.policies.policy import InstructionPolicy
from internnav_hf.policies.system2 import VIEWS, AnswerWith, System2Policy
from internnav_hf.trajectory import follow, path_of
from internnav_hf.weights.checkpoints import hub_arguments, stored_config

if TYPE_CHECKING:
    from internnav_hf.models.dual_system.model import DualSystemModel

FALLBACK_ACTIONS = (int(Action.TURN_LEFT),)


@dataclass(frozen=True)
class DualSystemStep:
    """The next step of a robot.

    `actions` are VLN-CE numbers, to be taken one after the other. `decision` is System2's current
    answer, `asked` whether it was given in this call. If the expert ran, `trajectories`
    (S, H + 1, 2) and their mean `path` (H + 1, 2) are in metres in the robot's current frame: x
    forward, y left, from (0, 0).
    """

    actions: tuple[int, ...]
    decision: Decision
    asked: bool
    trajectories: np.ndarray | None = None
    path: np.ndarray | None = None


@dataclass
class DualSystemEpisode:
    """The policy's memory of one robot; made by `DualSystemPolicy.start`.

    `plan` (Q, D) is None if System2 must run, `decision_view` (N, C) are the features of the view
    of its goal pixel, `age` counts the actions since.
    """

    instruction: str
    generator: torch.Generator
    history: FrameHistory = field(default_factory=FrameHistory)
    decision: Decision | None = None
    plan: Tensor | None = None
    decision_view: Tensor | None = None
    age: int = 0

    def note(self, frame: Image.Image) -> None:
        """Add a frame; each one after the first shows the result of an action."""
        self.history.append(frame)
        self.age += 1


class DualSystemPolicy(InstructionPolicy):
    """See the module; for one robot (`reset`, `act`, `observe`) or many (`start`, `steps`).

    An observation has `rgb`, and `rgb_look_down` unless the camera has one pitch; for experts that
    read depth, `depth_look_down` (`depth` with one pitch) in metres. `seed` and the name of an
    episode determine its noise, whatever runs in the same batch. `camera`, `strict_camera`, errors
    and STOP are as with `System2Policy`; a bad observation of one robot changes nothing for any.
    """

    def __init__(
        self,
        model: "DualSystemModel",
        processor: System2Processor,
        num_samples: int = 32,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        seed: int = 0,
        max_steps_per_plan: int = 8,
        actions_per_trajectory: int = 4,
        answer_with: AnswerWith | None = None,
        camera: CameraSpec | None = None,
        strict_camera: bool = False,
    ):
        name = type(self).__name__
        check_parts(name, model, [DualSystemConfig.model_type], processor)
        check_count("num_samples", num_samples)
        check_count("max_steps_per_plan", max_steps_per_plan)
        check_count("actions_per_trajectory", actions_per_trajectory)
        check_numbers(seed, guidance_scale=guidance_scale)
        self.model = model.eval()
        self.processor = processor
        self.system2 = System2Policy(model.system2, processor, answer_with, planner=model.plan)
        self.expert: Any = model.action_expert
        self.num_samples, self.seed = num_samples, seed
        self.max_steps_per_plan = max_steps_per_plan
        self.actions_per_trajectory = actions_per_trajectory
        given = {"guidance_scale": guidance_scale, "num_inference_steps": num_inference_steps}
        self.sampling = {name: value for name, value in given.items() if value is not None}
        is_ours = isinstance(self.expert, ActionExpert)
        known = inspect.signature(self.expert.denoise if is_ours else self.expert.sample).parameters
        for setting in self.sampling:
            if setting not in known:
                raise ValueError(f"{setting}: {type(self.expert).__name__} samples without it.")
        if num_inference_steps is not None:
            most = getattr(self.expert.config, "num_diffusion_steps", None)
            check_count("num_inference_steps", num_inference_steps, most)
        self.contract = CameraContract(name, self.cameras, camera, strict_camera, TWO_VIEWS)
        self.system2.contract = self.contract  # each difference is reported once

    @property
    def needs_depth(self) -> bool:
        """Whether the action expert uses depth."""
        return self.expert.config.uses_depth

    @classmethod
    def from_pretrained(cls, path, **kwargs) -> "DualSystemPolicy":
        """Model and processor from a folder or Hub repository.

        `kwargs` are settings of the policy and arguments of the model's loading. Released models
        get the published prompts of inference.
        """
        from internnav_hf.models.dual_system.model import DualSystemModel

        settings, kwargs = split_settings(cls, kwargs)
        hub = hub_arguments(kwargs)
        is_ours = stored_config(path, **hub).get("model_type") == DualSystemConfig.model_type
        style = {} if is_ours else {"prompt_style": "inference"}
        model = DualSystemModel.from_pretrained(path, **kwargs)
        processor = System2Processor.from_pretrained(path, **style, **hub)
        return cls(model, processor, **settings)

    def observe(self, rgb: Frame) -> None:
        """Add a frame between two actions of the last answer, which the robot still executes."""
        checked_batch(self.contract.policy, DualSystemEpisode, [self.episode])
        self.note(self.episode, rgb)

    def start(self, instruction: str, name: str = "") -> DualSystemEpisode:
        """A new episode; `name` seeds its random numbers, together with `seed`."""
        instruction = checked_instruction(instruction, self.contract.policy)
        return DualSystemEpisode(instruction, episode_generator(self.seed, name))

    def note(self, episode: DualSystemEpisode, rgb: Frame) -> None:
        """`observe` for one robot of many."""
        episode.note(self.system2.prepare(rgb))

    @torch.no_grad()
    def steps(
        self,
        episodes: Sequence[DualSystemEpisode],
        observations: Sequence[dict[str, Any]],
        force_look_down: bool = False,
    ) -> list[DualSystemStep]:
        """The next step of each robot, given its observation; System2 and the expert each run on
        one batch. With `force_look_down` System2's first answer is forced to be "↓".

        Raises ValueError for an invalid observation, before anything is done.
        """
        policy = self.contract.policy
        checked_batch(policy, DualSystemEpisode, episodes, observations=observations)
        places = [place_of(policy, i, len(observations)) for i in range(len(observations))]
        seen = [self._checked(*pair) for pair in zip(observations, places, strict=True)]
        with undone_on_error(episodes):
            return self._answered(episodes, seen, force_look_down)

    def _answered(self, episodes, seen: list[dict], force_look_down: bool) -> list[DualSystemStep]:
        views = _Views(self, seen)
        found: dict[int, DualSystemStep] = {}
        walking = [
            row
            for row, episode in enumerate(episodes)
            if episode.plan is not None and episode.age < self.max_steps_per_plan
        ]
        found |= self._walk(episodes, views, walking, asked=False)
        asking = [row for row in range(len(episodes)) if row not in found]
        pointing = self._ask(episodes, seen, views, asking, force_look_down)
        found |= self._walk(episodes, views, pointing, asked=True)
        for row in asking:
            found.setdefault(row, _turn_or_stop(episodes[row]))
        for episode, views_now in zip(episodes, seen, strict=True):
            self.note(episode, views_now["rgb"])
        return [found[row] for row in range(len(episodes))]

    def _checked(self, observation: Any, where: str) -> dict[str, Any]:
        """`rgb`, `rgb_look_down` and, for experts that use it, `depth_look_down`, checked; those
        of the ordinary view, if the camera has one pitch or is not known.
        """
        depths = ("depth", "depth_look_down") if self.needs_depth else ()
        if "depth_look_down" in checked_keys(observation, where, ("rgb",), VIEWS):
            depths = depths[1:]  # then the ordinary view's depth is not needed
        checked_keys(observation, where, (), (*VIEWS, *depths))
        seen: dict[str, Any] = self.system2.checked(observation, where)
        given = "depth_look_down"
        if "rgb_look_down" not in seen:
            self._check_has_one_pitch(where)
            look_down = {"rgb_look_down": seen["rgb"]}
            seen, given = seen | self.system2.checked(look_down, where, ("rgb_look_down",)), "depth"
        if not self.needs_depth:
            return seen
        if observation.get(given) is None:
            raise ValueError(
                f"{where}: found no depth, but this model's action expert reads it: pass "
                "'depth_look_down' ('depth' with a camera of one pitch) in metres."
            )
        view = seen["rgb_look_down"]
        depth = checked_depth(observation[given], f"{where}: {given}", view, "rgb_look_down")
        self.contract.check_depth(given, depth)
        return seen | {"depth_look_down": depth}

    def _check_has_one_pitch(self, where: str) -> None:
        pitches = [(trained.pitch_deg, trained.look_down_pitch_deg) for trained in self.cameras]
        if pitches and all(level != down for level, down in pitches):
            raise ValueError(
                f"{where}: found no 'rgb_look_down', but this model walks by look-down views, "
                f"{pitches[0][1]:g}° down."
            )

    def _ask(
        self, episodes, seen: list[dict], views: "_Views", rows: list[int], force: bool
    ) -> list[int]:
        """Run System2 for `rows`; returns those with a new plan."""
        decisions = self.system2.decide(
            [seen[row]["rgb"] for row in rows],
            [episodes[row].instruction for row in rows],
            [episodes[row].history.frames for row in rows],
            look_down=[seen[row]["rgb_look_down"] for row in rows],
            force_look_down=force,
        )
        pointing = []
        for row, decision in zip(rows, decisions, strict=True):
            episode = episodes[row]
            episode.decision, episode.plan, episode.age = decision, None, 0
            if decision.plan is not None:
                episode.plan = decision.plan.clone()  # a copy: the caller has the decision's
                pointing.append(row)
        for row, view in zip(pointing, views.features(pointing), strict=True):
            episodes[row].decision_view = view.clone()  # else the whole batch stays in memory
        return pointing

    def _walk(self, episodes, views: "_Views", rows: list[int], asked: bool) -> dict:
        """Steps of `rows` by the expert. A path that has ended gives no step unless the plan is
        new: System2 must run.
        """
        found: dict[int, DualSystemStep] = {}
        for row, trajectories in zip(rows, self._sample(episodes, views, rows), strict=True):
            episode, path = episodes[row], trajectories.mean(axis=0)
            actions = tuple(int(action) for action in follow(path))
            if Action.FORWARD not in actions:
                episode.plan = None
                if not asked:
                    continue
            actions = actions[: self.actions_per_trajectory] or FALLBACK_ACTIONS
            found[row] = DualSystemStep(actions, episode.decision, asked, trajectories, path)
        return found

    def _sample(self, episodes, views: "_Views", rows: list[int]) -> list[np.ndarray]:
        """Trajectories (S, H + 1, 2) of each of `rows`."""
        if not rows:
            return []
        chosen = [episodes[row] for row in rows]
        plan = torch.stack([episode.plan for episode in chosen])
        shape = (self.num_samples, self.expert.config.action_horizon, 3)
        # Each episode has its own noise: the initial one here, the expert's between its steps.
        generators = [episode.generator for episode in chosen]
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators])
        pairs = zip(chosen, views.features(rows), strict=True)
        actions = self.expert.sample(
            plan,
            num_samples=self.num_samples,
            generator=generators,
            noise=noise.to(plan.device),
            views=torch.stack([torch.stack([e.decision_view, view]) for e, view in pairs]),
            **self.sampling,
        )
        return list(path_of(actions.float().cpu().numpy()))


class _Views:
    """The look-down views of one call as inputs of the expert, their features computed once."""

    def __init__(self, policy: DualSystemPolicy, seen: Sequence[dict[str, Any]]):
        config = policy.expert.config
        self._expert, self._device = policy.expert, policy.model.device
        self._size = (config.image_size, config.image_size)
        self._needs_depth, self._seen = policy.needs_depth, seen
        self._features: dict[int, Tensor] = {}

    def features(self, rows: list[int]) -> list[Tensor]:
        """Features (N, C) for each of `rows`."""
        missing = [row for row in rows if row not in self._features]
        if missing:
            seen = [self._seen[row] for row in missing]
            rgb = np.stack([rgb_view(views["rgb_look_down"], self._size) for views in seen])
            depth = None
            if self._needs_depth:
                depths = [views["depth_look_down"] for views in seen]
                depth = np.stack([depth_view(depth, self._size) for depth in depths])
                depth = torch.as_tensor(depth, device=self._device)[:, None]
            rgb = torch.as_tensor(rgb, device=self._device)[:, None]
            encoded = self._expert.encode_views(rgb, depth)[:, 0]
            self._features |= dict(zip(missing, encoded, strict=True))
        return [self._features[row] for row in rows]


def rgb_view(frame: Frame, size: tuple[int, int]) -> np.ndarray:
    """(3, S, S) uint8, prepared as in the dataset."""
    resized = resize_view(as_image(frame), size, Image.Resampling.BICUBIC)
    return np.asarray(resized).transpose(2, 0, 1)


def depth_view(depth: Any, size: tuple[int, int]) -> np.ndarray:
    """(S, S) float32 metres from an image in metres, prepared as in the dataset; negative or
    non-finite depth becomes 0, unknown.
    """
    image = Image.fromarray(np.asarray(depth, np.float32))
    nearest = np.asarray(resize_view(image, size, Image.Resampling.NEAREST))
    known = np.where(np.isfinite(nearest) & (nearest > 0), nearest, np.float32(0))
    return np.minimum(known, np.float32(LARGEST_DEPTH_M))


def _turn_or_stop(episode: DualSystemEpisode) -> DualSystemStep:
    """System2's answer without a goal as a step; one without usable actions turns left."""
    actions: tuple[int, ...] = ()
    if episode.decision.kind in (AnswerKind.TURN, AnswerKind.STOP):
        actions = tuple(a for a in episode.decision.actions if a != Action.LOOK_DOWN)
    return DualSystemStep(actions or FALLBACK_ACTIONS, episode.decision, asked=True)
