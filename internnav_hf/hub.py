"""Key names of released checkpoints, and model cards, see `publishing.card`.

`from_pretrained` uses transformers' own renaming for plain Qwen-VL files; `convert_released` is the
same map for a given state dict, also for tests against the released key lists.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from internnav_hf.arguments.command import publishable
from internnav_hf.files import write_text
from internnav_hf.publishing import licences
from internnav_hf.publishing.card import CardFacts, render_card
from internnav_hf.publishing.licences import UNRESTRICTED, licence_of_name, strictest
from internnav_hf.publishing.origins import CARD, Origin, weights_origins
from internnav_hf.training.saving.provenance import cameras_of, data_origins
from internnav_hf.weights.loading import check_fit

NON_COMMERCIAL = licences.NON_COMMERCIAL.id


def convert_released(state_dict: Mapping[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    """`state_dict` of a released checkpoint under our key names, for `model.load_state_dict`.

    `model` is a System2, a dual system, a NavDP, or an action expert, for which the names are
    those without the prefix in a whole checkpoint (`model.`, `model.navdp.`). Raises
    ValueError that names missing and unexpected keys and wrong shapes.
    """
    model_class: Any = type(model)
    converted = model_class.released_keys(state_dict, model.config)
    check_fit("given", converted, model)
    return converted


def licence_of(base_model: str, datasets: Sequence[str], simulated: bool = False) -> str | None:
    """The licence that a fine-tuned model must carry, or None if base and data are not known to
    restrict it.

    `base_model` is a folder, file or Hub name, or several, separated by commas. `simulated` data,
    from our own simulator, is unrestricted whatever the name of its folder.
    """
    origins = [*_weights(base_model), *_data(datasets, simulated)]
    required = strictest(origin.licence for origin in origins if origin.licence)
    return required.id if required else None


def model_card(
    model: PreTrainedModel,
    base_model: str,
    datasets: Sequence[str],
    command: str,
    metrics: Mapping[str, float] | None = None,
    simulated: bool = False,
) -> str:
    """The README.md of a checkpoint: licence, base, data, image size, command, numbers."""
    origins = [*_weights(base_model), *_data(datasets, simulated)]
    return render_card(CardFacts(model.config, origins, command=command, metrics=metrics or {}))


def save_model_card(
    folder: str | Path, model: PreTrainedModel, base_model: str, dataset: Any
) -> None:
    """Write `folder`/README.md: the card with this process's command and `eval_results.json`."""
    results = Path(folder, "eval_results.json")
    metrics = json.loads(results.read_text()) if results.exists() else {}
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    facts = CardFacts(
        model.config,
        [*_weights(base_model), *data_origins(dataset)],
        command=f"python {publishable(sys.argv)}",
        metrics=numbers,
        cameras=cameras_of(dataset),
    )
    write_text(Path(folder, CARD), render_card(facts))


def _weights(base_model: str) -> list[Origin]:
    names = [name.strip() for name in base_model.split(",")]
    return [origin for name in names for origin in weights_origins(name)]


def _data(names: Sequence[str], simulated: bool) -> list[Origin]:
    return [
        Origin(name, "data", UNRESTRICTED if simulated else licence_of_name(name)) for name in names
    ]
