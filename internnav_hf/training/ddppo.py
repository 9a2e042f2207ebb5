"""Start of a training of DD-PPO's agent."""

import logging
from dataclasses import dataclass
from typing import Any

from internnav_hf.arguments.training import option, read_fields
from internnav_hf.data import DDPPODataset
from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.models.ddppo.model import DDPPOModel
from internnav_hf.weights.loading import check_is_checkpoint
from internnav_hf.weights.weight_files import is_weight_file

logger = logging.getLogger(__name__)


@dataclass
class DDPPOArguments:
    """Initial weights and sizes, by cloning and by PPO."""

    init_from: str | None = option(None, "Weights to continue from: ours or released ones.")
    model_config: str | None = option(None, "YAML or JSON file with other sizes, for a new model.")


def start_ddppo(init_from: str | None = None, sizes: str | None = None) -> DDPPOModel:
    """The agent of the checkpoint `init_from`, ours or released, or a new one; with the fields of
    the YAML or JSON file `sizes`.
    """
    fields: dict[str, Any] = read_fields(sizes) if sizes else {}
    if init_from is None:
        return DDPPOModel(DDPPOConfig(**fields))
    if not is_weight_file(init_from):
        check_is_checkpoint("--init_from", init_from)
    loaded: Any = DDPPOModel.from_pretrained(init_from, **fields)
    return loaded


def tell_steps(model: DDPPOModel, dataset: DDPPODataset) -> None:
    """Store the sizes of the data's steps with the model, and log what was measured."""
    forward_m, turn_deg = dataset.sizes
    model.config.forward_step_m = round(forward_m, 3)
    model.config.turn_angle_deg = round(turn_deg, 2)
    logger.info(
        "Steps of %g m and turns of %g degrees; the actions explain %.1f%% of the motions.",
        *(model.config.forward_step_m, model.config.turn_angle_deg, 100 * dataset.agreement),
    )
