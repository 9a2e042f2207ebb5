"""The base of Seq2Seq, CMA and RDP: encoders of instruction, colours and depth, some of which may
be frozen, and loading of released weights, strict, with one clear error.

Legend: B episodes, T steps, F frames, L tokens of an instruction, S image size, D depth size, V
width of the vision tower, G grid of depth features, C hidden.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from internnav_hf.models.common.clip import ClipImageEncoder, ClipTextEncoder, normalise_images
from internnav_hf.models.common.counted_losses import CountedLosses
from internnav_hf.models.common.depth_resnet import DepthResNet, depth_grid_size
from internnav_hf.models.common.rgb_resnet import RGBResNet
from internnav_hf.models.vln.config import ClipFollowerConfig
from internnav_hf.models.vln.released import VLNRelease, read_release
from internnav_hf.models.vln.start import encoder_weights
from internnav_hf.publishing.pushing import PushesWithCard
from internnav_hf.weights.loading import Release, StrictLoading


class FollowerModel(PushesWithCard, CountedLosses, StrictLoading, PreTrainedModel, ABC):
    """See the module; the encoders of instruction and colours are CLIP's unless a model has others.

    `from_pretrained` takes released weights too, and two arguments for these: `encoders` are the
    sources of those missing from a release, {"rgb_encoder": FILE, "depth_encoder": FILE}, see
    `start_vln`; `unused` are prefixes of further names in the release that are to be dropped.
    """

    config_class: Any
    config: Any
    base_model_prefix = ""
    main_input_name = "instruction_ids"
    opens_files = True
    release_options = ("encoders", "unused")

    def __init__(self, config: Any):
        super().__init__(config)
        self.add_encoders(config)
        self.depth_encoder = DepthResNet(
            config.depth_base_planes, config.depth_num_blocks, config.depth_feature_channels
        )

    def add_encoders(self, config: Any) -> None:
        """Add the encoders of instruction and colours."""
        self.text_encoder = ClipTextEncoder(config.text_config)
        self.rgb_encoder = ClipImageEncoder(config.vision_config)

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

    @classmethod
    @abstractmethod
    def convert_release(
        cls, release: VLNRelease, unused: tuple[str, ...]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The weights under our names, without those whose names start with one of `unused`, and
        fields of the configuration. Raises ValueError for another model.
        """

    def train(self, mode: bool = True):
        """As usual, and freeze the parts that the configuration freezes: loading unfroze them."""
        super().train(mode)
        for name, part in self.named_children():
            if not self._trained.get(name, True):
                part.requires_grad_(False)
                if not isinstance(part, RGBResNet):  # which has its own modes
                    part.eval()
        return self

    @property
    def _trained(self) -> dict[str, bool]:
        """Encoders, and whether the configuration trains them."""
        config = self.config
        trained = {"rgb_encoder": config.train_rgb_encoder}
        trained["depth_encoder"] = config.train_depth_encoder
        if isinstance(config, ClipFollowerConfig):
            trained["text_encoder"] = config.train_text_encoder
        return trained

    @property
    def has_fixed_features(self) -> bool:
        """Whether features of a frame are constant in training, so that they can be cached."""
        return not (self.config.train_rgb_encoder or self.config.train_depth_encoder)

    @property
    def feature_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the cached features of a frame's "rgb" and "depth"."""
        config = self.config
        grid = depth_grid_size(config.depth_size, len(config.depth_num_blocks))
        depth = (config.depth_feature_channels, grid, grid)
        return {"rgb": self.rgb_encoder.feature_shape, "depth": depth}

    def encode_instruction(self, instruction_ids: Tensor) -> Tensor:
        """Tokens (B, L, C) of ids (B, L), zeros at padding, once per episode; they are accepted in
        place of ids.

        L is the longest instruction: columns that are padding in all rows are cut off.
        """
        return self._encode("text_encoder", instruction_ids)

    def encode_rgb(self, rgb: Tensor) -> Tensor:
        """(F, 5, V) from `rgb` (F, 3, S, S), bytes or floats in [0, 1], each frame by itself."""
        images = normalise_images(rgb, self.config.image_mean, self.config.image_std)
        return self._encode("rgb_encoder", images.to(self.dtype))

    def encode_depth(self, depth: Tensor) -> Tensor:
        """(F, channels, G, G) from `depth` (F, D, D) in metres, each frame by itself."""
        max_depth = self.config.max_depth
        return self._encode("depth_encoder", (depth.clamp(0, max_depth) / max_depth).to(self.dtype))

    def features_at(
        self, name: str, frames: Tensor | None, features: Tensor | None, mask: Tensor
    ) -> Tensor:
        """Features (F, ...) of the "rgb" or "depth" in `mask` (B, T): cached ones (B, T, ...), or
        those of `frames` (B, T, ...) if `features` are None. ValueError for other shapes.
        """
        if features is None:
            size = self.config.image_size if name == "rgb" else self.config.depth_size
            given, shape = frames, (3, size, size) if name == "rgb" else (size, size)
        else:
            given, shape = features, self.feature_shapes[name]
        expected, found = (*mask.shape, *shape), None if given is None else tuple(given.shape)
        if given is None or found != expected:
            key = name if features is None else f"{name}_features"
            raise ValueError(f"{type(self).__name__}: {key}: found {found}, expected {expected}.")
        if features is not None:
            return features[mask].to(self.dtype)
        return (self.encode_rgb if name == "rgb" else self.encode_depth)(given[mask])

    def _encode(self, name: str, inputs: Tensor) -> Tensor:
        """Output of the encoder `name`, without gradient if the configuration freezes it."""
        learns = self._trained[name]
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            return self.get_submodule(name)(inputs)
