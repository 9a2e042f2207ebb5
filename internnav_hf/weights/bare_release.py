"""Released weights without a configuration: its fields are read from names and shapes."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.utils import CONFIG_NAME

from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.loading import Release, StrictLoading
from internnav_hf.weights.weight_files import released_file


class BareRelease(StrictLoading):
    """`StrictLoading` of a model whose released weights are one file, or a folder with that file
    and no configuration.
    """

    opens_files = True

    @classmethod
    def released(cls, path: str | Path, **hub: Any) -> Release | None:
        """See `StrictLoading`."""
        file = None if (Path(path) / CONFIG_NAME).exists() else released_file(path)
        if file is None:
            return None
        weights = read_tensors(file)
        fields = cls.released_fields(weights, file)
        return Release(file, fields, lambda model: cls.released_keys(weights, model.config))

    @classmethod
    @abstractmethod
    def released_fields(cls, state_dict: Mapping[str, Tensor], source: Path) -> dict[str, Any]:
        """Fields of the configuration of a released `state_dict`; ValueError naming the file
        `source` if it is another model's.
        """
        ...
