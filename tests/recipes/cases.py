"""The recipes under contract: an entry for each model, with tiny data and sizes."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from internnav_hf.arguments.training import parse_arguments
from tests.recipes import (
    cloning,
    ddppo,
    dual,
    fixed_noise,
    image_goal,
    navdp,
    planner,
    system2,
    vln,
)


class Case(NamedTuple):
    """`helpers` has the recipe's KINDS, `write_base`, `options` and `check`; `name` is what
    `options` asks for if the recipe trains several models.
    """

    helpers: ModuleType
    losses: tuple[str, ...]
    metrics: tuple[str, ...]
    held_out: dict[str, Any]
    name: str | None = None
    resumed: dict[str, Any] = {}
    """Options of the run that is resumed, none if another case stands for this one."""
    moving: dict[str, Any] = {}
    """Options of the run that two processes share, none if another case stands for this one."""
    collator: tuple[str, type] | None = None
    """Name of the recipe's collator, and one with noise that belongs to the sample."""
    tolerance: float = 1e-5
    """Largest difference of losses between one process and two."""

    def options(self, base: Path, output_dir: Path, **changes) -> list[str]:
        """The command line."""
        named = [] if self.name is None else [self.name]
        return self.helpers.options(base, output_dir, *named, **changes)

    def train(self, arguments: list[str]) -> None:
        """In this process."""
        self.helpers.recipe.main(*parse_arguments(self.helpers.KINDS, arguments))

    @property
    def script(self) -> str:
        """Where the recipe is."""
        return f"recipes/{self.helpers.recipe.__name__.split('.')[-1]}.py"


_ACCUMULATED = {"max_steps": 6, "save_total_limit": None, "gradient_accumulation_steps": 2}
_EVALUATED = {"eval_strategy": "steps", "eval_steps": 2}
_TEXT = {"eval_datasets": "r2r_val_unseen_125cm_0_30", **_EVALUATED}
_POINTS = navdp.HELD_OUT | _EVALUATED
_FRAMES = image_goal.HELD_OUT | _EVALUATED
_WALKS = cloning.HELD_OUT | _EVALUATED
_EPISODES = {"eval_scans": [vln.SCANS[1]], **_EVALUATED}
_MOVING = {"max_steps": 4, **dual.MOVING}

CASES = {
    "system2": Case(
        system2,
        ("language_loss", "pixel_goal_loss"),
        ("eval_turn_loss", "eval_pixel_error_px", "eval_within_20px", "eval_format_validity"),
        _TEXT,
        resumed={"max_steps": 6},
        moving={"max_steps": 4},
    ),
    "nextdit_async": Case(
        dual,
        ("action_loss",),
        ("eval_ade_m",),
        _TEXT,
        name="nextdit_async",
        resumed=_MOVING,
        moving={"max_steps": 3, **dual.MOVING},
        collator=("DualSystemCollator", fixed_noise.FixedDualSystemCollator),
    ),
    "navdp_async": Case(
        dual,
        ("action_loss",),
        ("eval_ade_m",),
        _TEXT,
        name="navdp_async",
        resumed=_MOVING,
        moving={"max_steps": 3},
        collator=("DualSystemCollator", fixed_noise.FixedDualSystemCollator),
    ),
    "nextdit": Case(dual, ("action_loss",), ("eval_ade_m",), _TEXT, name="nextdit"),
    "navdp": Case(
        navdp,
        ("no_goal_action_loss", "mixed_goal_action_loss", "critic_loss", "auxiliary_loss"),
        ("eval_point_ade_m", "eval_none_collision_share", "eval_straight_ade_m"),
        _POINTS,
        resumed=_ACCUMULATED | {"per_device_train_batch_size": 4},
        moving={"max_steps": 4},
        collator=("NavDPCollator", fixed_noise.FixedNavDPCollator),
        tolerance=1e-4,
    ),
    "iplanner": Case(
        planner,
        planner.LOSSES,
        planner.METRICS,
        planner.held_out("iplanner") | _EVALUATED,
        name="iplanner",
        resumed=_ACCUMULATED | {"per_device_train_batch_size": 4},
        moving={"max_steps": 4},
    ),
    "viplanner": Case(
        planner,
        planner.LOSSES,
        planner.METRICS,
        planner.held_out("viplanner") | _EVALUATED,
        name="viplanner",
    ),
    "gnm": Case(
        image_goal,
        ("action_loss", "distance_loss"),
        ("eval_ade_m", "eval_heading_cosine", "eval_distance_error"),
        _FRAMES,
        name="gnm",
    ),
    "vint": Case(
        image_goal,
        ("action_loss", "distance_loss"),
        ("eval_ade_m", "eval_path_cosine", "eval_distance_error"),
        _FRAMES,
        name="vint",
        resumed=_ACCUMULATED | {"per_device_train_batch_size": 4},
    ),
    "nomad": Case(
        image_goal,
        ("diffusion_loss", "distance_loss"),
        ("eval_ade_m", "eval_free_ade_m", "eval_constant_ade_m", "eval_distance_error"),
        _FRAMES,
        name="nomad",
        resumed=_ACCUMULATED | {"per_device_train_batch_size": 4},
        moving={"max_steps": 4},
        collator=("ImageGoalCollator", fixed_noise.FixedImageGoalCollator),
        tolerance=1e-4,
    ),
    "cloning": Case(
        cloning,
        ("action_loss",),
        ("eval_action_accuracy", "eval_stop_recall", "eval_repeat_accuracy"),
        _WALKS,
        moving={"max_steps": 3, "train_sampling_strategy": "random"},
    ),
    "seq2seq": Case(
        vln,
        vln.LOSSES["seq2seq"],
        ("eval_action_accuracy", "eval_stop_recall", "eval_progress_error"),
        _EPISODES,
        name="seq2seq",
    ),
    "cma": Case(
        vln,
        vln.LOSSES["cma"],
        ("eval_action_accuracy", "eval_repeat_accuracy", "eval_progress_error"),
        _EPISODES,
        name="cma",
        resumed=_ACCUMULATED | {"per_device_train_batch_size": 2},
        moving={"max_steps": 4, "train_sampling_strategy": "random"},
    ),
    "rdp": Case(
        vln,
        vln.LOSSES["rdp"],
        ("eval_ade_m", "eval_constant_ade_m", "eval_action_accuracy", "eval_progress_error"),
        _EPISODES,
        name="rdp",
        resumed=_ACCUMULATED | {"per_device_train_batch_size": 2},
        moving={"max_steps": 4, "train_sampling_strategy": "random"},
        collator=("VLNCollator", fixed_noise.FixedVLNCollator),
        tolerance=1e-4,
    ),
}
HELPERS: dict[str, ModuleType] = {"system2": system2, "dual": dual, "navdp": navdp, "vln": vln}
HELPERS["planner"] = planner
HELPERS["image_goal"] = image_goal
HELPERS |= {"cloning": cloning, "ddppo": ddppo}
"""By the middle of the demos' file names."""


def fix_draws(case: Case, set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """From now on noise belongs to the sample."""
    if case.collator is not None:
        set_attribute(case.helpers.recipe, *case.collator)
