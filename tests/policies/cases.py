"""One tiny policy of each kind, asked alike: for tests of what all promise."""

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.models.planners.semantics import class_colours
from internnav_hf.policies import (
    DualSystemPolicy,
    ImageGoal,
    NavDPPolicy,
    PointGoal,
    RDPPolicy,
    System2Policy,
    VLNPolicy,
)
from tests.tiny.cases import CASES as MODELS
from tests.tiny.dual_system import tiny_dual_system
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.rdp import tiny_rdp
from tests.tiny.system2 import tiny_processor, tiny_system2
from tests.tiny.vln import tiny_cma, tiny_seq2seq
from tests.tiny.vln_processor import tiny_vln_processor

WIDTH, HEIGHT = 112, 84
CAMERA = CameraSpec(width=WIDTH, height=HEIGHT, height_m=0.5, pitch_deg=0, look_down_pitch_deg=30)
WORDS = "walk past the red table"
GOAL = PointGoal((2.0, 0.5))
IMAGE_GOAL = ImageGoal(np.random.default_rng(99).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def drives_to_goals(policy: Any) -> bool:
    """Whether it honours `GoalPolicy`; else it follows instructions."""
    return hasattr(policy, "goal_kinds")


def goal_for(policy: Any) -> Any:
    """One that it drives to."""
    return GOAL if "point" in policy.goal_kinds else IMAGE_GOAL


@dataclass(frozen=True)
class Case:
    """`make(trained, **told)` is a policy trained with the stored camera(s) `trained`, or None."""

    make: Callable[..., Any]
    keys: tuple[str, ...]

    def reset(self, policy: Any) -> None:
        policy.reset() if drives_to_goals(policy) else policy.reset(WORDS)

    def act(self, policy: Any, observation: Any, **others: Any) -> Any:
        given = {"goal": goal_for(policy)} | others if drives_to_goals(policy) else others
        return policy.act(observation, **given)

    def steps(self, policy: Any, episodes: list, observations: list) -> list:
        goals = [[goal_for(policy)] * len(observations)] if drives_to_goals(policy) else []
        return policy.steps(episodes, observations, *goals)

    def start(self, policy: Any, name: str) -> Any:
        words = [] if drives_to_goals(policy) else [WORDS]
        return policy.start(*words, name=name)

    def seen(self, index: int) -> dict[str, Any]:
        """What the robot sees at step `index`."""
        rng = np.random.default_rng(index)
        seen: dict[str, Any] = {"pose": (0.1 * index, 0.0, 0.1)}
        for key in self.keys:
            is_depth = key.startswith("depth")
            picture = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            if key == "semantics":
                picture = class_colours()[rng.integers(0, 30, (HEIGHT, WIDTH))]
            depth = rng.uniform(0.5, 4.0, (HEIGHT, WIDTH)).astype(np.float32)
            seen.setdefault(key, depth if is_depth else picture)
        return {key: seen[key] for key in self.keys}


def answer(step: Any) -> list[np.ndarray]:
    """All numbers of a policy's answer."""
    names = ("goal_pixel", "actions", "trajectories", "path", "values", "action", "progress")
    found = [getattr(step, name, None) for name in names]
    return [np.asarray(value, float) for value in found if value is not None]


def assert_same(found: Any, expected: Any) -> None:
    for one, other in zip(answer(found), answer(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def pointing(system2: System2Policy) -> None:
    """What a random model says is never a goal: it asks for the look-down view."""
    system2._generate = lambda session: ["↓"] * len(session.last_hidden)


@cache
def model_of(kind: str) -> Any:
    makers = {"system2": tiny_system2, "navdp": tiny_navdp_model, "rdp": tiny_rdp}
    makers |= {"cma": tiny_cma, "seq2seq": tiny_seq2seq}
    makers |= {k: lambda k=k: tiny_dual_system(k) for k in ("nextdit_async", "navdp_async")}
    return makers[kind]()


def system2(trained: Any = None, **told: Any) -> System2Policy:
    policy = System2Policy(model_of("system2"), tiny_processor(camera=trained), **told)
    pointing(policy)
    return policy


def dual(kind: str, trained: Any = None, **told: Any) -> DualSystemPolicy:
    processor = tiny_processor(camera=trained)
    policy = DualSystemPolicy(model_of(kind), processor, num_samples=2, **told)
    pointing(policy.system2)
    return policy


def navdp(trained: Any = None, **told: Any) -> NavDPPolicy:
    model = copy(model_of("navdp"))  # with the same weights
    model.config = deepcopy(model.config)
    model.config.camera = trained
    return NavDPPolicy(model, num_samples=2, shortest_path_m=0.0, **told)


def follower(kind: str, trained: Any = None, **told: Any) -> VLNPolicy:
    processor = tiny_vln_processor(camera=trained, depth_size=64 if kind == "rdp" else 32)
    return (RDPPolicy if kind == "rdp" else VLNPolicy)(model_of(kind), processor, **told)


VIEWS = ("rgb", "rgb_look_down")
CASES = {
    "System2Policy": Case(system2, VIEWS),
    "DualSystemPolicy": Case(lambda *a, **k: dual("nextdit_async", *a, **k), VIEWS),
    "DualSystemPolicy, depth": Case(
        lambda *a, **k: dual("navdp_async", *a, **k), (*VIEWS, "depth_look_down")
    ),
    "NavDPPolicy": Case(navdp, ("rgb", "depth")),
    "VLNPolicy, Seq2Seq": Case(lambda *a, **k: follower("seq2seq", *a, **k), ("rgb", "depth")),
    "VLNPolicy, CMA": Case(lambda *a, **k: follower("cma", *a, **k), ("rgb", "depth")),
    "RDPPolicy": Case(lambda *a, **k: follower("rdp", *a, **k), ("rgb", "depth", "pose")),
}
CASES |= {name: Case(one.policy, one.views) for name, one in MODELS.items() if one.policy}
