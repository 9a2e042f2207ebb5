"""What travels with a checkpoint: key names of released ones, and a model card that tells the
truth.

`from_pretrained` uses transformers' own renaming for plain Qwen-VL files; `convert_released` is the
same map in the open, for state dicts at hand and for tests against the released key lists.
"""

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from internnav_hf.data import NavDPDataset, System2Dataset, VLNDataset
from internnav_hf.files import write_text
from internnav_hf.models.dual_system import DualSystemModel
from internnav_hf.models.navdp import NavDPModel
from internnav_hf.models.rdp import RDPModel
from internnav_hf.models.recurrent_vln import RecurrentVLNModel
from internnav_hf.models.released import (
    action_expert_keys,
    check_fit,
    dual_system_keys,
    system2_keys,
)
from internnav_hf.models.system2 import System2Model

Model = System2Model | DualSystemModel | NavDPModel | RecurrentVLNModel | RDPModel
TrainingSet = System2Dataset | NavDPDataset | VLNDataset

NON_COMMERCIAL = "cc-by-nc-sa-4.0"
# Licences that follow a fine-tuned model, by where the base model or the data come from.
_RESTRICTED = re.compile(
    r"InternRobotics/(?!VLN-PE)|InternVLA|InternData|\b(r2r|rxr|scalevln)_\d+cm"
    r"|^r2r(_flash|_aliengo)?$"
    r"|\b(3dfront|gibson|hm3d|hssd|matterport3d|replica)_(d435i|zed)\b"
    r"|\bnavdp[^/]*\.ckpt$",
    re.I,
)


def convert_released(state_dict: Mapping[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    """`state_dict` of a released checkpoint under our key names, for `model.load_state_dict`.

    `model` is a System2, a dual system, a NavDP, or an action expert, whose released names are
    those without the prefix that a whole checkpoint gives them (`model.`, `model.navdp.`). Raises
    ValueError naming keys that `model` misses, does not know, or has in another shape.
    """
    if isinstance(model, System2Model):
        converted = system2_keys(state_dict, model.config.tie_word_embeddings)
    elif isinstance(model, DualSystemModel):
        converted = dual_system_keys(state_dict, model.config)
    else:
        converted = action_expert_keys(state_dict, model.config)
    check_fit("given", converted, model)
    return converted


def licence_of(base_model: str, datasets: Sequence[str], simulated: bool = False) -> str | None:
    """The licence a fine-tuned model must carry, or None where base and data do not restrict it.

    InternVLA-N1's and NavDP's weights and InternData-N1 are CC BY-NC-SA 4.0, and so is what is made
    from them. VLN-PE's weights are MIT.
    `simulated` data, of our own simulator, is free whatever its folder is called.
    """
    sources = [base_model, *([] if simulated else datasets)]
    return NON_COMMERCIAL if any(_RESTRICTED.search(source) for source in sources) else None


def model_card(
    model: Model,
    base_model: str,
    datasets: Sequence[str],
    command: str,
    metrics: Mapping[str, float] | None = None,
    simulated: bool = False,
) -> str:
    """The README.md of a checkpoint: licence, base, data, image size, command, numbers."""
    licence = licence_of(base_model, datasets, simulated)
    header = ["---", "library_name: internnav_hf", "pipeline_tag: robotics"]
    header += [f"license: {licence}"] if licence else []
    task = "visual" if isinstance(model, NavDPModel) else "vision-and-language"
    header += ["tags:", "- embodied-navigation", f"- {task}-navigation", "---"]
    rows = [f"| {name} | {value:.4g} |" for name, value in (metrics or {}).items()]
    numbers = ["", "| metric | value |", "|---|---|", *rows] if rows else []
    policy = type(model).__name__.replace("Model", "Policy")
    policy = "VLNPolicy" if isinstance(model, RecurrentVLNModel) else policy
    body = [
        f"# {type(model).__name__}",
        "",
        *_description(model),
        "",
        f"- base model: `{base_model}`",
        f"- data: {', '.join(f'`{name}`' for name in datasets)}",
        f"- trained with: `{command}`",
        *numbers,
        "",
        "```python",
        f"from internnav_hf.policies import {policy}",
        f'policy = {policy}.from_pretrained("this/repository")',
        "```",
        "",
    ]
    return "\n".join([*header, "", *body])


def _description(model: Model) -> list[str]:
    """What it is, in some lines."""
    if isinstance(model, NavDPModel):
        config, goals = model.config, ", ".join(model.config.goal_kinds)
        size = f"{config.image_size}x{config.image_size}"
        seen = f"{config.num_memory_frames} frames of {size} pixels and depth"
        return [f"A NavDP for the goals {goals}. It sees {seen}."]
    if isinstance(model, RecurrentVLNModel | RDPModel):
        name = type(model).__name__.removesuffix("Model")
        size = f"{model.config.image_size}x{model.config.image_size}"
        return [f"A {name}: views of {size} pixels, depth and an instruction in, actions out."]
    is_dual = isinstance(model, DualSystemModel)
    config = model.config.system2_config if is_dual else model.config
    head = " and a pixel-goal head." if config.use_pixel_goal_head else "."
    lines = [f"A {config.vlm_config.model_type} with System2's dialogue{head}"]
    lines += [f"Goals are pixels of a {config.image_width}x{config.image_height} look-down image."]
    if is_dual:
        kind = model.config.action_expert_config.model_type.removeprefix("internnav_")
        lines += [f"Its plans, of {model.config.num_queries} tokens, are walked by a {kind}."]
    return lines


def save_model_card(
    folder: str | Path,
    model: Model,
    base_model: str,
    dataset: TrainingSet,
) -> None:
    """Write `folder`/README.md: the card with this process's command and `eval_results.json`."""
    results = Path(folder, "eval_results.json")
    metrics = json.loads(results.read_text()) if results.exists() else {}
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    command = f"python {shlex.join(sys.argv)}"
    names = [str(name) for name in _names(dataset)]
    card = model_card(model, base_model, names, command, numbers, dataset.is_simulated)
    write_text(Path(folder, "README.md"), card)


def _names(dataset: TrainingSet) -> Sequence:
    """Of the datasets, groups of scenes or scans that were trained on."""
    if isinstance(dataset, NavDPDataset | VLNDataset):
        return sorted({unit.split("/")[0] for unit in dataset.episodes["unit"].to_pylist()})
    return dataset.names
