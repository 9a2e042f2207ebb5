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

from internnav_hf.data import System2Dataset
from internnav_hf.models.loading import check_loading
from internnav_hf.models.system2 import System2Model

NON_COMMERCIAL = "cc-by-nc-sa-4.0"
# Licences that follow a fine-tuned model, by where the base model or the data come from.
_RESTRICTED = re.compile(r"InternRobotics/|InternVLA|InternData|\b(r2r|rxr|scalevln)_\d+cm", re.I)

# Released (transformers 4.51) names of a Qwen2.5-VL -> ours. The first match counts.
_SYSTEM2_KEYS = (
    (re.compile(r"^model\.(visual|language_model)\."), r"vlm.model.\1."),
    (re.compile(r"^visual\."), "vlm.model.visual."),
    (re.compile(r"^model\."), "vlm.model.language_model."),
    (re.compile(r"^lm_head\."), "vlm.lm_head."),
)


def convert_released(state_dict: Mapping[str, Tensor], model: System2Model) -> dict[str, Tensor]:
    """`state_dict` of a released System2 under our key names, ready for `model.load_state_dict`.

    Raises ValueError naming keys that `model` misses, does not know, or has in another shape.
    """
    converted = {_our_key(key): value for key, value in state_dict.items()}
    expected = model.state_dict()
    output, embedding = "vlm.lm_head.weight", "vlm.model.language_model.embed_tokens.weight"
    if output not in converted and embedding in converted and model.config.tie_word_embeddings:
        converted[output] = converted[embedding]
    shared = converted.keys() & expected.keys()
    report = {
        "missing_keys": expected.keys() - converted.keys(),
        "unexpected_keys": converted.keys() - expected.keys(),
        "mismatched_keys": [(k,) for k in shared if converted[k].shape != expected[k].shape],
    }
    check_loading("given", report)
    return converted


def _our_key(key: str) -> str:
    for pattern, replacement in _SYSTEM2_KEYS:
        if pattern.match(key):
            return pattern.sub(replacement, key)
    return key


def licence_of(base_model: str, datasets: Sequence[str], simulated: bool = False) -> str | None:
    """The licence a fine-tuned model must carry, or None where base and data do not restrict it.

    InternVLA-N1's weights and InternData-N1 are CC BY-NC-SA 4.0, and so is what is made from them.
    `simulated` data, of our own simulator, is free whatever its folder is called.
    """
    sources = [base_model, *([] if simulated else datasets)]
    return NON_COMMERCIAL if any(_RESTRICTED.search(source) for source in sources) else None


def model_card(
    model: System2Model,
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
    header += ["tags:", "- embodied-navigation", "- vision-and-language-navigation", "---"]
    rows = [f"| {name} | {value:.4g} |" for name, value in (metrics or {}).items()]
    numbers = ["", "| metric | value |", "|---|---|", *rows] if rows else []
    config = model.config
    body = [
        f"# {type(model).__name__}",
        "",
        f"A {config.vlm_config.model_type} with System2's dialogue"
        + (" and a pixel-goal head." if config.use_pixel_goal_head else "."),
        f"Goals are pixels of a {config.image_width}x{config.image_height} look-down image.",
        "",
        f"- base model: `{base_model}`",
        f"- data: {', '.join(f'`{name}`' for name in datasets)}",
        f"- trained with: `{command}`",
        *numbers,
        "",
        "```python",
        "from internnav_hf import System2Policy",
        'policy = System2Policy.from_pretrained("this/repository")',
        "```",
        "",
    ]
    return "\n".join([*header, "", *body])


def save_model_card(
    folder: str | Path, model: System2Model, base_model: str, dataset: System2Dataset
) -> None:
    """Write `folder`/README.md: the card with this process's command and `eval_results.json`."""
    results = Path(folder, "eval_results.json")
    metrics = json.loads(results.read_text()) if results.exists() else {}
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    command = f"python {shlex.join(sys.argv)}"
    names = [str(name) for name in dataset.names]
    card = model_card(model, base_model, names, command, numbers, dataset.is_simulated)
    Path(folder, "README.md").write_text(card, encoding="utf-8")
