"""Released weights under our names, as strict loading has them."""

from collections.abc import Mapping

from torch import Tensor

from internnav_hf.weights.loading import check_fit


def convert_released(state_dict: Mapping[str, Tensor], model) -> dict[str, Tensor]:
    """`state_dict` for `model.load_state_dict`; ValueError unless every key fits."""
    converted = type(model).released_keys(state_dict, model.config)
    check_fit("given", converted, model)
    return converted
