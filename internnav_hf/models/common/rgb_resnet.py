"""Colour encoder of Seq2Seq and CMA: transformers' ResNet, whose batch norm can be kept frozen.

`batch_norm_mode` selects the statistics:
- "running": the stored ones, in training too; they are never updated.
- "training": the batch's in training, which also update the stored ones; the stored ones in
  evaluation. Released CMA weights were trained this way.
- "always": as "training", but each image's own in evaluation. Released Seq2Seq weights were trained
  and evaluated this way.

Legend: F frames, S image size, C channels of the last stage, G cells in a row.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetModel

from internnav_hf.weights.renaming import renamed, without

# Names in torchvision's ResNet -> transformers 5.23's.
_TORCHVISION_NAMES = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
    (r"^layer(\d)\.(\d+)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}."),
    (r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution."),
    (r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization."),
)
_CLASSIFIER = ("fc.weight", "fc.bias")


class RGBResNet(ResNetModel):
    """Features of the last stage, pooled to `feature_shape`: (C, G, G) for a `grid` of G, else
    (C,), the mean over the image. Images are floats; any normalisation is the caller's.
    """

    def __init__(
        self, config: ResNetConfig, batch_norm_mode: str = "running", grid: int | None = None
    ):
        super().__init__(config)
        channels = config.hidden_sizes[-1]
        self.feature_shape = (channels,) if grid is None else (channels, grid, grid)
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, _BatchNorm(child.num_features, batch_norm_mode))

    def forward(self, rgb: Tensor) -> Tensor:
        """Pooled features (F, *feature_shape) of `rgb` (F, 3, S, S)."""
        features = self.encoder(self.embedder(rgb)).last_hidden_state
        if len(self.feature_shape) == 1:
            return features.mean((2, 3))
        return F.adaptive_avg_pool2d(features, self.feature_shape[-1])


class _BatchNorm(nn.BatchNorm2d):
    def __init__(self, num_features: int, batch_norm_mode: str):
        super().__init__(num_features)
        self.batch_norm_mode = batch_norm_mode

    def train(self, mode: bool = True):
        """As usual, but batch norm stays in evaluation mode if it uses stored statistics."""
        return super().train(mode and self.batch_norm_mode != "running")

    def forward(self, input: Tensor) -> Tensor:
        """`input` normalised; see the module."""
        if self.training or self.batch_norm_mode != "always":
            return super().forward(input)
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


def torchvision_resnet_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a torchvision ResNet for `RGBResNet`, without its classifier. Unknown names are kept,
    so that strict loading reports them.
    """
    return renamed(without(state_dict, _CLASSIFIER), _TORCHVISION_NAMES)
