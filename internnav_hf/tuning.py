"""What learns, and how fast: freezing, LoRA, and learning rates by module for the optimiser."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor, nn

from internnav_hf.arguments import NavTrainingArguments, option

# Parts of a model that holds a Qwen-VL as `vlm`. The longest name wins: the merger is apart.
PARTS = {
    "vision_tower": ("vlm.model.visual",),
    "merger": ("vlm.model.visual.merger", "vlm.model.visual.deepstack_merger_list"),
    "language_model": ("vlm.model.language_model", "vlm.lm_head"),
    "heads": ("pixel_goal_head", "landmark_head"),
}


@dataclass
class TuningArguments:
    """What learns in a model that holds a Qwen-VL, and how fast; see `choose_what_learns`."""

    tune_vision_tower: bool = option(True, "Train the vision tower.")
    tune_merger: bool = option(True, "Train the merger of vision tower and language model.")
    tune_language_model: bool = option(True, "Train the language model and its output layer.")
    tune_heads: bool = option(True, "Train the heads that are ours.")
    vision_tower_learning_rate: float | None = option(None, "Default: learning_rate.")
    merger_learning_rate: float | None = option(None, "Default: learning_rate.")
    language_model_learning_rate: float | None = option(None, "Default: learning_rate.")
    heads_learning_rate: float | None = option(None, "Default: learning_rate.")
    lora_rank: int = option(
        0, "Above 0: train LoRA of this rank in the language model, and the heads; nothing else."
    )


def choose_what_learns(
    model: nn.Module, tuning: TuningArguments, args: NavTrainingArguments
) -> None:
    """Freezes the parts that are not to be tuned, and enters the learning rate of every part in
    `args.module_learning_rates`, where a rate that is there already stays.
    """
    choices = {
        "vision_tower": (tuning.tune_vision_tower, tuning.vision_tower_learning_rate),
        "merger": (tuning.tune_merger, tuning.merger_learning_rate),
        "language_model": (tuning.tune_language_model, tuning.language_model_learning_rate),
        "heads": (tuning.tune_heads, tuning.heads_learning_rate),
    }
    rates = {}
    for part, (tune, rate) in choices.items():
        for module in PARTS[part]:
            parameters = [p for name, p in model.named_parameters() if _is_in(module, name)]
            for parameter in parameters:
                parameter.requires_grad_(tune)
            if parameters:
                rates[module] = args.learning_rate if rate is None else rate
    args.module_learning_rates = rates | args.rates_by_module


def add_lora(model: nn.Module, rank: int) -> nn.Module:
    """LoRA beside the language model's projections; our heads train as they are, the rest not.

    Raises ValueError if the language model is frozen; a frozen head stays frozen.
    """
    from peft import LoraConfig, get_peft_model

    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not any(name.startswith("vlm.model.language_model.") for name in trained):
        raise ValueError("lora_rank adapts the language model; tune_language_model is false.")
    heads = [head for head in PARTS["heads"] if any(_is_in(head, name) for name in trained)]
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=r"vlm\.model\.language_model\..*_proj",
        modules_to_save=heads or None,
    )
    return get_peft_model(model, config)  # type: ignore[arg-type]  (a PreTrainedModel)


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    module_learning_rates: Mapping[str, float],
    weight_decay: float,
) -> list[dict]:
    """All parameters in groups: `name`, `params`, `lr`, `weight_decay`, `trainable`.

    A parameter belongs to the longest of the module names that its own name starts with, else to
    "other", which has `learning_rate`. Vectors (norms and biases) have no weight decay. Groups with
    `learning_rate` come first, because Trainer logs the rate of the first group.
    """
    groups: dict[tuple, dict] = {}
    found: set[str] = set()
    for name, parameter in model.named_parameters():
        modules = [module for module in module_learning_rates if _is_in(module, name)]
        found.update(modules)
        module = max(modules, key=len, default="other")
        group = {
            "name": module,
            "params": [],
            "lr": float(module_learning_rates.get(module, learning_rate)),
            "weight_decay": weight_decay if len(_shape(parameter)) > 1 else 0.0,
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


def _is_in(module: str, parameter_name: str) -> bool:
    name = parameter_name.removeprefix("base_model.model.")  # what PEFT puts in front
    return name == module or name.startswith(f"{module}.")


def _refuse_module(model: nn.Module, module: str) -> None:
    names = [name.removeprefix("base_model.model.") for name, _ in model.named_modules() if name]
    close = get_close_matches(module, names, n=1, cutoff=0.0)
    raise ValueError(
        f"module_learning_rates names {module!r}, which {type(model).__name__} does not have; "
        f"did you mean {', '.join(close)!r}?"
    )


def _shape(parameter: Tensor) -> tuple[int, ...]:
    # ZeRO-3 leaves an empty tensor in the place of a parameter, and its shape beside it
    return tuple(getattr(parameter, "ds_shape", parameter.shape))
