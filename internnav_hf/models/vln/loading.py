"""Loading of released Seq2Seq, CMA and RDP: strict, with one clear error."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from internnav_hf.models.vln.released import VLNRelease, read_release
from internnav_hf.models.vln.start import encoder_weights
from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.loading import Release, StrictLoading


class ReleasedModel(PushesWithCard, StrictLoading, PreTrainedModel, ABC):
    """The base of Seq2Seq, CMA and RDP, whose `from_pretrained` takes released weights too.

    It has two arguments for these: `encoders` are the sources of those missing from a release,
    {"rgb_encoder": FILE, "depth_encoder": FILE}, see `start_vln`; `unused` are prefixes of further
    names in the release that are to be dropped.
    """

    config_class: Any
    opens_files = True
    release_options = ("encoders", "unused")

    @classmethod
    def released(cls, path, encoders=None, unused=(), **hub) -> Release | None:
        """A checkpoint released by InternNav or VLN-CE: a folder of VLN-PE, or a `.pth` file."""
        found = read_release(path)
        if found is None:
            return None
        weights, fields = cls.convert_release(found, unused)

        def convert(model: Any) -> dict[str, Tensor]:
            return weights | encoder_weights(found.file, weights, model, encoders or {})

        return Release(found.file, fields, convert)

    @property
    @abstractmethod
    def feature_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the cached features of a frame's "rgb" and "depth"."""

    @classmethod
    @abstractmethod
    def convert_release(
        cls, release: VLNRelease, unused: tuple[str, ...]
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
    """Raise ValueError unless `features`, or `frames` if they are None, of "rgb" or "depth" have
    the shape that `model` takes for all `steps` (B, T).
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
