"""How released Seq2Seq, CMA and RDP load: strictly, or with one clear error."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from internnav_hf.models.common.config import own_fields
from internnav_hf.models.vln.released import Release, read_release
from internnav_hf.models.vln.start import encoder_weights
from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.loading import StrictLoading, check_fit, named


class ReleasedModel(PushesWithCard, StrictLoading, PreTrainedModel, ABC):
    """The base of models whose `from_pretrained` takes what others released too, which
    `convert_release` knows.
    """

    config_class: Any

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *args,
        encoders: dict[str, str] | None = None,
        unused: tuple[str, ...] = (),
        **kwargs,
    ):
        """Ours, or what InternNav or VLN-CE released: a folder of VLN-PE, or a `.pth` file.

        Fields of the configuration are accepted as keyword arguments. `encoders` says what fills
        those that a release leaves out, {"rgb_encoder": FILE, "depth_encoder": FILE}, see
        `start_vln`; `unused` how names start that it has besides and nothing reads. Any other
        missing, unexpected or misshapen key is a ValueError.
        """
        path = pretrained_model_name_or_path
        release = read_release(path)
        if release is None:
            if encoders or unused:
                raise ValueError(
                    f"{path}: `encoders` and `unused` are for released weights, found none."
                )
            return super().from_pretrained(path, *args, **kwargs)
        weights, known = cls.convert_release(release, unused)
        fields, kwargs = own_fields(cls.config_class, kwargs)
        config = kwargs.pop("config", None) or cls.config_class(**(known | fields))
        with torch.device("meta"):
            model = cls(config)
        weights |= encoder_weights(release.file, weights, model, encoders or {})
        check_fit(release.file, weights, model)
        kwargs["state_dict"] = weights
        return named(super().from_pretrained(None, *args, config=config, **kwargs), path)

    @property
    @abstractmethod
    def feature_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of what is kept of a frame's "rgb" and "depth"."""

    @classmethod
    @abstractmethod
    def convert_release(
        cls, release: Release, unused: tuple[str, ...]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The weights under our names, without those whose names start with one of `unused`, and
        fields of the configuration. Raises ValueError for another model.
        """


def check_frames(
    model: ReleasedModel,
    name: str,
    frames: Tensor | None,
    features: Tensor | None,
    steps: tuple[int, ...],
) -> None:
    """Raise ValueError unless there are `features` or, where None, `frames` of "rgb" or "depth",
    for all `steps` (B, T), as `model` takes them.
    """
    if features is None:
        size = model.config.image_size if name == "rgb" else model.config.depth_size
        given, shape = frames, (3, size, size) if name == "rgb" else (size, size)
    else:
        given, shape = features, model.feature_shapes[name]
        name += "_features"
    expected, found = (*steps, *shape), None if given is None else tuple(given.shape)
    if found != expected:
        raise ValueError(f"{type(model).__name__}: {name}: found {found}, expected {expected}.")
