"""What training a planner needs besides `NavTrainer`: published schedules and a published slip."""

import math
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import TrainerCallback

from internnav_hf.arguments.data import DataArguments
from internnav_hf.arguments.training import option, read_fields
from internnav_hf.data.cost_maps.geometric import VIPLANNER, GeometricSettings
from internnav_hf.data.cost_maps.semantic import SemanticSettings
from internnav_hf.data.readers.folders import did_you_mean
from internnav_hf.data.tasks.planner import SECOND_IMAGES
from internnav_hf.data.tasks.planner_noise import ImageNoise
from internnav_hf.data.tasks.planner_pairs import PairRules
from internnav_hf.models.planners.model import PlannerModel, ViPlannerModel, iPlannerModel
from internnav_hf.training.trainer import NavTrainer
from internnav_hf.weights.loading import check_is_checkpoint
from internnav_hf.weights.weight_files import is_weight_file

PAIRS = {"iplanner": "ahead", "viplanner": "graph"}
_RULES_OF = {
    "ahead": ("frame_stride",),
    "graph": ("farthest_goal", "pose_spacing", "pairs_per_pose", "kind_shares", "stage_epochs"),
}


@dataclass
class PairArguments(DataArguments):
    """Goals that a planner is asked for."""

    pairs: str | None = option(
        None, "Goals: ahead or graph; default: as the planner's.", choices=("ahead", "graph")
    )
    frame_stride: int = option(1, "ahead: frames of a step.", low=1)
    farthest_goal: float = option(15.0, "graph: metres along it.", above=0)
    pose_spacing: float = option(0.0, "graph: metres between two poses that count.", low=0)
    pairs_per_pose: float = option(4.0, "graph: goals of a pose, in the mean.", above=0)
    follows_ground: bool = option(
        False, "viplanner: maps of classes have heights of the ground, where it is not level."
    )
    map_rule: str | None = option(
        None,
        "Whose maps of shapes: iPlanner's leave out thin walls and small furniture, ViPlanner's "
        "do not; default: as the planner's.",
        choices=("iplanner", "viplanner"),
    )
    kind_shares: list[float] = field(
        default_factory=lambda: list(PairRules.kind_shares),
        metadata={"help": "graph: of goals in view, in front outside of it, and behind."},
    )

    stage_epochs: int = option(
        0, "graph: other goals after so many epochs, fewer in view; published option: 50.", low=0
    )
    image_noise: str | None = option(
        None, "YAML or JSON file with fields of ImageNoise, damage of the images in training."
    )

    def pairs_for(self, planner: str) -> str:
        """The kind of goals of a planner; ValueError for rules of the other kind."""
        kind = self.pairs or PAIRS[planner]
        other = next(other for other in _RULES_OF if other != kind)
        for one in fields(self):
            factory, found = one.default_factory, getattr(self, one.name)
            default = one.default if factory is MISSING else factory()
            if one.name in _RULES_OF[other] and found != default:
                raise ValueError(
                    f"--{one.name}: found {found}, expected {default}: it is a rule of --pairs "
                    f"{other}, and these are {kind}."
                )
        return kind

    @property
    def noise(self) -> ImageNoise | None:
        """Of the images."""
        return None if self.image_noise is None else read_noise(self.image_noise)

    @property
    def rules(self) -> PairRules:
        """Of the graph."""
        return PairRules(
            farthest_m=self.farthest_goal,
            pose_spacing_m=self.pose_spacing,
            pairs_per_pose=self.pairs_per_pose,
            kind_shares=tuple(self.kind_shares),
            stage_epochs=self.stage_epochs,
        )


def read_noise(file: str | Path) -> ImageNoise:
    """The damage whose fields a YAML or JSON file names; ValueError for others."""
    given, known = read_fields(file), [field.name for field in fields(ImageNoise)]
    for name in given:
        if name not in known:
            raise ValueError(f"{file}: there is no {name}.{did_you_mean(name, known)}")
    try:
        return ImageNoise(**given)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


PLANNERS: dict[str, type[PlannerModel]] = {"iplanner": iPlannerModel, "viplanner": ViPlannerModel}


def start_planner(
    planner: str, fields: dict[str, Any], model: str | None = None, sizes: str | None = None
) -> PlannerModel:
    """A planner with `fields` of its configuration: that of the checkpoint `model`, ours or
    released, or a new one, with those of the file `sizes` besides.
    """
    kind: Any = PLANNERS[planner]
    fields = (read_fields(sizes) if sizes else {}) | fields
    if model is None:
        return kind(kind.config_class(**fields))
    if not is_weight_file(model):
        check_is_checkpoint("--model", model)
    loaded: Any = kind.from_pretrained(model, **fields)
    return loaded


def seen_fields(planner: str, second_image: str | None, model: str | None) -> dict[str, bool]:
    """Fields of a new ViPlanner that sees `second_image`, None for its own; ValueError where there
    is no choice.
    """
    if second_image is None:
        return {}
    if planner != "viplanner" or model is not None:
        why = "iPlanner sees depth alone" if model is None else "a checkpoint says what it sees"
        raise ValueError(f"--second_image: found {second_image}, expected none: {why}.")
    return {f"use_{kind}": kind == second_image for kind in SECOND_IMAGES}


def map_settings(
    model: PlannerModel, follows_ground: bool = False, rule: str | None = None
) -> GeometricSettings | SemanticSettings:
    """How maps that are not there are made for a planner: published of each, or those of shapes by
    `rule`.
    """
    if model.second_image == "semantics":
        if rule is not None:
            raise ValueError(
                f"--map_rule: found {rule}, expected none: a model of classes has maps of classes."
            )
        return SemanticSettings(follows_ground=follows_ground)
    if follows_ground:
        raise ValueError(
            "--follows_ground: found True, expected False: maps of shapes are level; a ViPlanner "
            "of semantics has maps of classes."
        )
    rule = rule or ("viplanner" if isinstance(model, ViPlannerModel) else "iplanner")
    return VIPLANNER if rule == "viplanner" else GeometricSettings()


class PlannerTrainer(NavTrainer):
    """`NavTrainer` with SGD's momentum; ends when the rate cannot fall any more."""

    def __init__(self, *args: Any, momentum: float = 0.0, freeze: bool = False, **kwargs: Any):
        """`freeze`: batch norm keeps its statistics from the first evaluation on, as executed."""
        self.momentum = momentum
        super().__init__(*args, **kwargs)
        self.add_callback(EndAtLowestRate())
        if freeze:
            self.add_callback(FreezeStatistics())

    def get_optimizer_cls_and_kwargs(self, args: Any, model: Any = None) -> tuple[Any, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As of every trainer, with momentum for SGD."""
        kind, options = NavTrainer.get_optimizer_cls_and_kwargs(args, model)
        is_sgd = kind.__name__ == "SGD" and self.momentum
        return kind, {**options, "momentum": self.momentum} if is_sgd else options


class EndAtLowestRate(TrainerCallback):
    """Ends a training when its plateau schedule would lower a rate that is the lowest already."""

    def on_evaluate(self, args, state, control, lr_scheduler=None, metrics=None, **kwargs):
        """The scheduler steps after it: it has counted the evaluations before."""
        if not isinstance(lr_scheduler, ReduceLROnPlateau):
            return
        found = metrics.get(f"eval_{args.metric_for_best_model.removeprefix('eval_')}")
        if found is not None and lr_scheduler._is_better(found, lr_scheduler.best):
            return
        lowest = max(lr_scheduler.min_lrs)
        rates = [group["lr"] for group in lr_scheduler.optimizer.param_groups]
        is_lowest = all(math.isclose(rate, lowest, rel_tol=1e-6) for rate in rates)
        if is_lowest and lr_scheduler.num_bad_epochs >= lr_scheduler.patience:
            control.should_training_stop = True


class FreezeStatistics(TrainerCallback):
    """Freezes batch norm's statistics at the first evaluation."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """A resumed run goes on with what was frozen before."""
        model.statistics_are_frozen = any("eval_loss" in entry for entry in state.log_history)

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        """The model stays in training mode otherwise."""
        model.statistics_are_frozen = True
