"""Trainable parts and their rates: freezing, LoRA, and learning rates by module."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor, nn

from internnav_hf.arguments.training import NavTrainingArguments, option
from internnav_hf.training.lora import adapted_model

# Parts of a System2, and of a dual system, in which System2's names have SYSTEM2 in front. The
# longest name wins: the merger is apart from the vision tower.
PARTS = {
    "vision_tower": ("vlm.model.visual",),
    "merger": ("vlm.model.visual.merger", "vlm.model.visual.deepstack_merger_list"),
    "language_model": ("vlm.model.language_model",),
    "output_layer": ("vlm.lm_head",),
    "heads": ("pixel_goal_head", "landmark_head"),
    "latent_queries": ("latent_queries",),
    "action_expert": ("action_expert",),
}
SYSTEM2 = "system2."
_SAVED = ".modules_to_save.default."


@dataclass
class _Tuning:
    vision_tower_learning_rate: float | None = option(None, "Default: learning_rate.", low=0)
    merger_learning_rate: float | None = option(None, "Default: learning_rate.", low=0)
    language_model_learning_rate: float | None = option(None, "Default: learning_rate.", low=0)


@dataclass
class TuningArguments(_Tuning):
    """Trainable parts of a System2 and their learning rates; see `set_trainable`."""

    tune_vision_tower: bool = option(True, "Train the vision tower.")
    tune_merger: bool = option(True, "Train the merger of vision tower and language model.")
    tune_language_model: bool = option(True, "Train the language model and its output layer.")
    tune_heads: bool = option(True, "Train the heads that this package adds.")
    heads_learning_rate: float | None = option(None, "Default: learning_rate.", low=0)
    lora_rank: int = option(
        0,
        "Above 0: train LoRA of this rank in the language model, and the heads; nothing else.",
        low=0,
    )

    def choices(self) -> dict[str, tuple[bool, float | None]]:
        """Return part -> (whether it learns, its own learning rate, if any)."""
        language_model = (self.tune_language_model, self.language_model_learning_rate)
        return {
            "vision_tower": (self.tune_vision_tower, self.vision_tower_learning_rate),
            "merger": (self.tune_merger, self.merger_learning_rate),
            "language_model": language_model,
            "output_layer": language_model,
            "heads": (self.tune_heads, self.heads_learning_rate),
        }


@dataclass
class DualTuningArguments(_Tuning):
    """Trainable parts of a dual system; published: action expert and latent queries alone. No plan
    depends on System2's heads and output layer, which do not learn.
    """

    tune_vision_tower: bool = option(False, "Train System2's vision tower.")
    tune_merger: bool = option(False, "Train the merger of vision tower and language model.")
    tune_language_model: bool = option(False, "Train System2's language model, whole.")
    tune_latent_queries: bool = option(True, "Train the query tokens' embeddings.")
    tune_action_expert: bool = option(True, "Train the action expert.")
    latent_queries_learning_rate: float | None = option(None, "Default: learning_rate.", low=0)
    action_expert_learning_rate: float | None = option(None, "Default: learning_rate.", low=0)
    lora_rank: int = option(
        0, "Above 0: train LoRA of this rank in System2's language model too.", low=0
    )

    def choices(self) -> dict[str, tuple[bool, float | None]]:
        """Return part -> (whether it learns, its own learning rate, if any)."""
        return {
            "vision_tower": (self.tune_vision_tower, self.vision_tower_learning_rate),
            "merger": (self.tune_merger, self.merger_learning_rate),
            "language_model": (self.tune_language_model, self.language_model_learning_rate),
            "output_layer": (False, None),
            "heads": (False, None),
            "latent_queries": (self.tune_latent_queries, self.latent_queries_learning_rate),
            "action_expert": (self.tune_action_expert, self.action_expert_learning_rate),
        }


def set_trainable(
    model: nn.Module, tuning: TuningArguments | DualTuningArguments, args: NavTrainingArguments
) -> None:
    """Freeze the parts that are not to be tuned, and enter the learning rate of every part in
    `args.module_learning_rates`; a rate that is already there stays. Parameters that the model
    itself has frozen stay frozen.
    """
    choices = tuning.choices()
    part_of = {module: part for part in choices for module in _modules(model, part)}
    for name, parameter in model.named_parameters():
        module = _longest(part_of, name)
        if module is not None and not choices[part_of[module]][0]:
            parameter.requires_grad_(False)
    given = {module: choices[part][1] for module, part in part_of.items()}
    rates = {m: args.learning_rate if rate is None else rate for m, rate in given.items()}
    args.module_learning_rates = rates | args.rates_by_module


def add_lora(model: nn.Module, rank: int) -> nn.Module:
    """Add LoRA to the language model's projections. Of the rest, our heads, latent queries and
    action expert train as they would without LoRA; the VLM itself does not.

    Raises ValueError if the language model of a System2 is frozen, which contradicts LoRA; in a
    dual system that is the default.
    """
    from peft import LoraConfig

    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    language_model = _modules(model, "language_model")[0]
    is_dual = language_model.startswith(SYSTEM2)
    if not is_dual and not any(_is_in(language_model, name) for name in trained):
        raise ValueError("lora_rank adapts the language model; tune_language_model is false.")
    whole = [
        module
        for part in ("heads", "latent_queries", "action_expert")
        for module in _modules(model, part)
        if any(_is_in(module, name) for name in trained)
    ]
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=re.escape(language_model) + r"\..*_proj",
        modules_to_save=whole or None,
    )
    adapted = adapted_model(model, config)
    for name, parameter in adapted.named_parameters():
        if _SAVED in name:  # a frozen parameter stays frozen in PEFT's copy
            parameter.requires_grad_(_plain(name) in trained)
    return adapted


def _modules(model: nn.Module, part: str) -> list[str]:
    """Return the names of the modules of `part` in `model`."""
    names = [name for name, _ in model.named_parameters()]
    modules = [f"{prefix}{module}" for module in PARTS[part] for prefix in ("", SYSTEM2)]
    return [module for module in modules if any(_is_in(module, name) for name in names)]


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    module_learning_rates: Mapping[str, float],
    weight_decay: float,
    decays_vectors: bool = False,
) -> list[dict]:
    """All parameters in groups: `name`, `params`, `lr`, `weight_decay`, `trainable`.

    A parameter belongs to the longest of the module names that its own name starts with, else to
    "other", which has `learning_rate`. Vectors (norms and biases) have no weight decay unless
    `decays_vectors`. Groups with `learning_rate` come first, because Trainer logs the rate of the
    first group.
    """
    groups: dict[tuple, dict] = {}
    found: set[str] = set()
    for name, parameter in model.named_parameters():
        found.update(module for module in module_learning_rates if _is_in(module, name))
        module = _longest(module_learning_rates, name) or "other"
        group = {
            "name": module,
            "params": [],
            "lr": float(module_learning_rates.get(module, learning_rate)),
            "weight_decay": weight_decay if decays_vectors or len(_shape(parameter)) > 1 else 0.0,
            "trainable": parameter.requires_grad,
        }
        key = (module, group["weight_decay"], parameter.requires_grad)
        groups.setdefault(key, group)["params"].append(parameter)
    for module in module_learning_rates:
        if module not in found:
            _refuse_module(model, module)
    if not any(group["trainable"] for group in groups.values()):
        raise ValueError("Every parameter is frozen: there is nothing to train.")
    return sorted(groups.values(), key=lambda group: group["lr"] != learning_rate)


def parameter_table(groups: list[dict]) -> str:
    """The groups as lines: module, number of parameters, learning rate or "frozen", decay."""
    rows = [("module", "parameters", "learning rate", "weight decay")]
    for group in groups:
        number = sum(math.prod(_shape(parameter)) for parameter in group["params"])
        rate, decay = f"{group['lr']:g}", f"{group['weight_decay']:g}"
        rate, decay = (rate, decay) if group["trainable"] else ("frozen", "")
        rows.append((group["name"], f"{number:,}", rate, decay))
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        right = [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([f"{name:<{first}}", *right]).rstrip())
    return "\n".join(lines)


def _longest(modules: Iterable[str], parameter_name: str) -> str | None:
    """Return the longest of the module names that contain this parameter."""
    return max((m for m in modules if _is_in(m, parameter_name)), key=len, default=None)


def _is_in(module: str, parameter_name: str) -> bool:
    name = _plain(parameter_name)
    return name == module or name.startswith(f"{module}.")


def _plain(parameter_name: str) -> str:
    """Remove PEFT's prefix, and its infix in a part that is saved whole."""
    return parameter_name.removeprefix("base_model.model.").replace(_SAVED, ".")


def _refuse_module(model: nn.Module, module: str) -> None:
    names = [name.removeprefix("base_model.model.") for name, _ in model.named_modules() if name]
    close = get_close_matches(module, names, n=1, cutoff=0.0)
    raise ValueError(
        f"module_learning_rates names {module!r}, which {type(model).__name__} does not have; "
        f"did you mean {', '.join(close)!r}?"
    )


def _shape(parameter: Tensor) -> tuple[int, ...]:
    # ZeRO-3 leaves an empty tensor in place of a parameter, with its shape as an attribute
    return tuple(getattr(parameter, "ds_shape", parameter.shape))
