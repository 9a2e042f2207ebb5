"""Configurations of GNM, ViNT and NoMaD: views in, waypoints to the place of another view out.

Apart from the models' files so that `import internnav_hf` can register them without importing
modelling code.
"""

from typing import Any, ClassVar

from transformers import EfficientNetConfig, MobileNetV2Config, PreTrainedConfig

from internnav_hf.models.common.config import NavConfig, read_sub_config

_MOBILENET_V2 = {"hidden_act": "relu6", "layer_norm_eps": 1e-5, "tf_padding": False}
_EFFICIENTNET_B0 = {
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "hidden_dim": 1280,
    "dropout_rate": 0.2,
    "batch_norm_momentum": 0.01,
}
DISTANCE_MASKS = ("sample", "batch")


class ImageGoalConfig(NavConfig):
    """The common fields of `GNMConfig`, `ViNTConfig` and `NoMaDConfig`.

    Fields:
        image_height, image_width: size in pixels of all images.
        num_memory_frames: colour frames that the model sees, the current one last; one more than
            the published `context_size`.
        action_horizon: number of waypoints.
        predicts_heading: whether a waypoint has a heading.
        hidden_size: width of an encoded image.
        vision_config: the image encoder, as transformers' configuration or a dict; fields missing
            from a dict are as published.
        action_loss_weight, distance_loss_weight: weights in the loss.
        waypoint_spacing_m: metres of the unit of waypoints: from one frame of the training data to
            the next, times the stride; by name for several data sets, None if it is not known.
        crop_images: whether views are cropped to the aspect 4 to 3 before they are resized.
        camera: the robot's camera in training, as `CameraSpec.to_dict` gives it; a list of
            different ones, None if it is not known.

    Raises ValueError for an unknown field and for sizes that do not fit each other.
    """

    sub_configs: ClassVar[dict[str, Any]] = {"vision_config": EfficientNetConfig}
    published_encoder: ClassVar[dict[str, Any]] = _EFFICIENTNET_B0

    image_height: int = 64
    image_width: int = 85
    num_memory_frames: int = 6
    action_horizon: int = 5
    predicts_heading: bool = True
    hidden_size: int = 1024
    vision_config: dict | PreTrainedConfig | None = None
    action_loss_weight: float = 0.5
    distance_loss_weight: float = 0.005
    waypoint_spacing_m: float | dict[str, float] | None = None
    crop_images: bool = True
    camera: dict | list[dict] | None = None

    def __post_init__(self, **kwargs):
        kind, published = self.sub_configs["vision_config"], self.published_encoder
        self.vision_config = read_sub_config(kind, self.vision_config, published)
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise ValueError for invalid values and for sizes that do not fit each other."""
        names = ("image_height", "image_width", "num_memory_frames", "action_horizon")
        self.expect_positive(*names)
        spacing = self.waypoint_spacing_m
        several = spacing.values() if isinstance(spacing, dict) else [spacing]
        holds = all(one is None or one > 0 for one in several)
        self.expect("waypoint_spacing_m", holds, "metres, more than 0")

    @property
    def num_waypoint_channels(self) -> int:
        """Of a waypoint: x, y and, if `predicts_heading`, the cosine and sine of the heading."""
        return 4 if self.predicts_heading else 2


class GNMConfig(ImageGoalConfig):
    """GNM (arXiv 2210.03370): the fields of `ImageGoalConfig`; the encoder is a MobileNetV2.

    Fields:
        head_sizes: widths of the layers between the encoded images and the predictions.
    """

    model_type = "internnav_gnm"
    sub_configs: ClassVar[dict[str, Any]] = {"vision_config": MobileNetV2Config}
    published_encoder: ClassVar[dict[str, Any]] = _MOBILENET_V2

    head_sizes: tuple[int, ...] | list[int] = (256, 32)


class TokenConfig(ImageGoalConfig):
    """The common fields of `ViNTConfig` and `NoMaDConfig`; the encoder is an EfficientNet.

    Fields:
        num_hidden_layers, num_attention_heads, intermediate_size, dropout: settings of the
            transformer over encoded images.
    """

    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 2048
    dropout: float = 0.1

    def check(self) -> None:
        """Raise ValueError for invalid values and for sizes that do not fit each other."""
        super().check()
        self.expect_multiple("hidden_size", "num_attention_heads")


class ViNTConfig(TokenConfig):
    """ViNT (arXiv 2306.14846): the fields of `TokenConfig`.

    Fields:
        late_fusion: whether the goal is encoded by itself, and not with the current view.
        head_sizes: widths of the layers between the transformer and the predictions.
    """

    model_type = "internnav_vint"

    hidden_size: int = 512
    late_fusion: bool = False
    head_sizes: tuple[int, ...] | list[int] = (512, 256, 128, 64, 32)


class NoMaDConfig(TokenConfig):
    """NoMaD (arXiv 2310.07896): the fields of `TokenConfig`; batch norm becomes group norm.

    Fields:
        channels_per_group: channels of a group in the encoder's group norm.
        denoiser_sizes: channels of the denoiser's stages; all but the last halve the waypoints.
        denoiser_kernel_size, time_size: its convolutions' length, and the width of a time.
        distance_head_sizes: widths of the layers before the predicted distance.
        num_diffusion_steps: length of the noise schedule.
        step_min, step_max: range of (dx, dy) between two waypoints that becomes [-1, 1].
        distance_mask: samples in the distance loss. "sample": those with a goal. "batch": as the
            published code is executed, all, and the share of those with a goal scales their mean.
    """

    model_type = "internnav_nomad"

    image_height: int = 96
    image_width: int = 96
    num_memory_frames: int = 4
    action_horizon: int = 8
    predicts_heading: bool = False
    hidden_size: int = 256
    intermediate_size: int = 1024
    action_loss_weight: float = 1 - 1e-4
    distance_loss_weight: float = 1e-4
    channels_per_group: int = 16
    denoiser_sizes: tuple[int, ...] | list[int] = (64, 128, 256)
    denoiser_kernel_size: int = 3
    time_size: int = 256
    distance_head_sizes: tuple[int, ...] | list[int] = (64, 16)
    num_diffusion_steps: int = 10
    step_min: tuple[float, ...] | list[float] = (-2.5, -4.0)
    step_max: tuple[float, ...] | list[float] = (5.0, 4.0)
    distance_mask: str = "sample"

    def check(self) -> None:
        """Raise ValueError for invalid values and for sizes that do not fit each other."""
        super().check()
        self.expect_positive("num_diffusion_steps")
        self.expect("predicts_heading", not self.predicts_heading, "False: NoMaD has no headings")
        halvings = 2 ** (len(self.denoiser_sizes) - 1)
        fits = self.action_horizon % halvings == 0
        self.expect("action_horizon", fits, f"a multiple of {halvings}")
        low, high = self.step_min, self.step_max
        is_range = len(low) == len(high) == 2 and low[0] < high[0] and low[1] < high[1]
        self.expect("step_max", is_range, f"two numbers above step_min, {low}")
        self.expect_one_of(distance_mask=DISTANCE_MASKS)
