"""A tiny one of each registered model, with a batch for it and maybe its policy: for the contract
suites and the suite of old checkpoints. A new model needs one entry in `CASES`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from internnav_hf.models.dual_system.model import DualSystemModel
from tests.tiny.batch import tiny_batch
from tests.tiny.ddppo import ddppo_batch, ddppo_policy, tiny_ddppo
from tests.tiny.gnm import image_goal_policy, tiny_image_goal
from tests.tiny.navdp import tiny_navdp, tiny_navdp_model
from tests.tiny.nextdit import tiny as tiny_nextdit
from tests.tiny.planners import (
    iplanner_policy,
    planner_batch,
    tiny_iplanner,
    tiny_viplanner,
    viplanner_policy,
)
from tests.tiny.rdp import tiny_cma_clip, tiny_rdp
from tests.tiny.system2 import tiny_system2
from tests.tiny.vln import tiny_cma, tiny_seq2seq

Batch = dict[str, Tensor]
FRAME_KEYS = ("rgb", "depth", "actions", "frame_mask", "noise", "timesteps")
DROPS = ("image_drop", "condition_drop")
IMAGE_KEYS = ("pixel_values", "image_grid_thw")
DIALOGUE_KEYS = ("input_ids", "attention_mask", "mm_token_type_ids", *IMAGE_KEYS)


class Case(NamedTuple):
    """`make()` gives a tiny model in evaluation mode, the same at every call; `batch(model)` some
    samples for it, with all draws fixed. `policy(trained, **settings)`, if it drives a robot by
    itself, is its policy, trained with the stored camera(s) `trained` or None, which sees `views`.
    """

    make: Callable[[], PreTrainedModel]
    batch: Callable[[PreTrainedModel], Batch]
    policy: Callable[..., Any] | None = None
    views: tuple[str, ...] = ("rgb", "depth")


def system2_batch(model: PreTrainedModel) -> Batch:
    return tiny_batch()


def expert_batch(model: PreTrainedModel, num_samples: int = 8) -> Batch:
    """Three frames of each sample, the last of which is padding in every second one."""
    config = model.config
    size, horizon = config.image_size, config.action_horizon
    generator = torch.Generator().manual_seed(0)
    frames = (num_samples, 3)
    mask = torch.ones(frames, dtype=torch.bool)
    mask[::2, -1] = False
    return {
        "plan": torch.randn(num_samples, 4, config.plan_hidden_size, generator=generator),
        "rgb": torch.rand(*frames, 3, size, size, generator=generator),
        "depth": 5 * torch.rand(*frames, size, size, generator=generator),
        "actions": 0.1 * torch.randn(*frames, horizon, 3, generator=generator),
        "frame_mask": mask,
        "noise": torch.randn(*frames, horizon, 3, generator=generator),
        "timesteps": torch.randint(1, 10, frames, generator=generator),
    }


def dual_batch(model: PreTrainedModel) -> Batch:
    dialogue = tiny_batch()
    frames = expert_batch(model.action_expert, num_samples=3)
    return {key: dialogue[key] for key in DIALOGUE_KEYS} | {key: frames[key] for key in FRAME_KEYS}


def navdp_batch(model: PreTrainedModel) -> Batch:
    """Four times the model's own two samples, with goals mixed in other ways and other noise."""
    generator = torch.Generator().manual_seed(0)
    batch = {key: torch.cat([tensor] * 4) for key, tensor in model.dummy_inputs.items()}
    batch["goal_slots"] = torch.randint(3, (8, 3), generator=generator)
    batch["noise"] = torch.randn(batch["noise"].shape, generator=generator)
    batch["timesteps"] = torch.randint(1, 10, (8, 2), generator=generator)
    return batch | {"sample_mask": torch.arange(8) != 5}


def image_goal_batch(model: PreTrainedModel) -> Batch:
    """Four times the model's own two samples, one of which does not count."""
    batch = {key: torch.cat([tensor] * 4) for key, tensor in model.dummy_inputs.items()}
    return batch | {"sample_mask": torch.arange(8) != 5}


def vln_batch(model: PreTrainedModel) -> Batch:
    """Four times the model's own two episodes, one of which does not count."""
    batch = {key: torch.cat([tensor] * 4) for key, tensor in model.dummy_inputs.items()}
    return batch | {"episode_mask": torch.arange(8) != 5}


def rdp_batch(model: PreTrainedModel) -> Batch:
    """Four times the model's own two episodes, with other noise."""
    generator = torch.Generator().manual_seed(0)
    batch = {key: torch.cat([tensor] * 4) for key, tensor in model.dummy_inputs.items()}
    drawn = {"noise": torch.randn(batch["displacements"].shape, generator=generator)}
    drawn["timesteps"] = torch.randint(1, 10, batch["progress"].shape, generator=generator)
    drops = {name: torch.arange(24).reshape(8, 3) % 4 == 1 for name in DROPS}
    return batch | drawn | drops


def dual_system(make_expert: Callable[[], PreTrainedModel]) -> DualSystemModel:
    """A tiny System2 with an expert like the tiny one, for its plans."""
    expert_config = make_expert().config
    expert_config.plan_hidden_size = 64
    system2 = tiny_system2().requires_grad_(False)
    torch.manual_seed(0)
    return DualSystemModel.from_parts(system2, expert_config, num_queries=3).eval()


CASES = {
    "system2": Case(tiny_system2, system2_batch),
    "nextdit": Case(tiny_nextdit, expert_batch),
    "navdp": Case(tiny_navdp, expert_batch),
    "navdp-system1": Case(tiny_navdp_model, navdp_batch),
    "iplanner": Case(tiny_iplanner, planner_batch, iplanner_policy),
    "viplanner": Case(
        tiny_viplanner, planner_batch, viplanner_policy, ("rgb", "depth", "semantics")
    ),
    **{
        name: Case(
            partial(tiny_image_goal, name),
            image_goal_batch,
            partial(image_goal_policy, name),
            ("rgb",),
        )
        for name in ("gnm", "vint", "nomad")
    },
    "vint-late-fusion": Case(partial(tiny_image_goal, "vint", late_fusion=True), image_goal_batch),
    "ddppo": Case(tiny_ddppo, ddppo_batch, ddppo_policy),
    "ddppo-continuous": Case(
        partial(tiny_ddppo, action_space="continuous", num_actions=2), ddppo_batch
    ),
    "seq2seq": Case(tiny_seq2seq, vln_batch),
    "cma": Case(tiny_cma, vln_batch),
    "cma-clip": Case(tiny_cma_clip, vln_batch),
    "rdp": Case(tiny_rdp, rdp_batch),
}
EXPERTS = tuple(name for name, case in CASES.items() if case.batch is expert_batch)
DUAL_SYSTEMS = tuple(f"{name}-dual" for name in EXPERTS)
for name in EXPERTS:
    CASES[f"{name}-dual"] = Case(partial(dual_system, CASES[name].make), dual_batch)
