"""Configurations of NavDP, of the action expert NavDP*, and of the trunk that they share.

Apart from the models' files so that `import internnav_hf` can register it without importing
modelling code.
"""

from transformers import Dinov2Config, PreTrainedConfig

from internnav_hf.models.common.config import ActionExpertConfig, NavConfig, read_dino_config

# Kinds of goals in a slot, in the order of `goal_slots`; then no goal.
SLOT_KINDS = ("point", "image", "pixel")
GOAL_KINDS = (*SLOT_KINDS, "none")
CHANNEL_ORDERS = ("rgb", "bgr")


class NavDPTrunkConfig(NavConfig):
    """RGB-D encoder and denoiser.

    Fields:
        action_horizon: steps of a trajectory.
        image_size: height and width in pixels of all frames.
        action_scale: factors of (dx, dy, dyaw) before diffusion, whose range is [-1, 1].
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: sizes of the
            denoiser. The RGB-D encoder has the same width.
        num_rgbd_queries: tokens that the RGB-D encoder makes of all its frames.
        num_rgbd_layers, num_rgbd_attention_heads, rgbd_intermediate_size: sizes of its decoder.
        vision_config, depth_vision_config: the DINOv2 encoders of colour and of depth, as
            `Dinov2Config` or dicts; both as wide as `hidden_size`.
        train_rgb_encoder: whether the colour encoder is trained. In the released model it is not.
        num_diffusion_steps: length of the noise schedule.
        dropout: in the denoiser and in the RGB-D encoder's decoder.
    """

    sub_configs = {"vision_config": Dinov2Config, "depth_vision_config": Dinov2Config}

    action_horizon: int = 24
    image_size: int = 224
    action_scale: tuple[float, ...] | list[float] = (4.0, 4.0, 4.0)
    hidden_size: int = 384
    num_hidden_layers: int = 16
    num_attention_heads: int = 8
    intermediate_size: int = 1536
    num_rgbd_queries: int = 128
    num_rgbd_layers: int = 2
    num_rgbd_attention_heads: int = 8
    rgbd_intermediate_size: int = 2048
    vision_config: dict | PreTrainedConfig | None = None
    depth_vision_config: dict | PreTrainedConfig | None = None
    train_rgb_encoder: bool = False
    num_diffusion_steps: int = 10
    dropout: float = 0.1

    def __post_init__(self, **kwargs):
        for name in self.sub_configs:
            setattr(self, name, read_dino_config(getattr(self, name)))
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise ValueError for sizes from which the trunk cannot be built."""
        self.expect_positive(
            "action_horizon", "image_size", "num_rgbd_queries", "num_diffusion_steps"
        )
        is_scale = len(self.action_scale) == 3 and min(self.action_scale) > 0
        self.expect("action_scale", is_scale, "three positive factors, of dx, dy and dyaw")
        self.expect_multiple("hidden_size", "num_attention_heads")
        self.expect_multiple("hidden_size", "num_rgbd_attention_heads")
        for name in self.sub_configs:
            self.expect_multiple("image_size", f"{name}.patch_size")
        for name in ("vision_config", "depth_vision_config"):
            is_equal = getattr(self, name).hidden_size == self.hidden_size
            self.expect(f"{name}.hidden_size", is_equal, f"hidden_size={self.hidden_size}")


class NavDPActionExpertConfig(ActionExpertConfig, NavDPTrunkConfig):
    """NavDP*: RGB-D encoder, plan compressor, denoiser. The defaults are the released model's.

    Fields, in addition to those of `ActionExpertConfig` and `NavDPTrunkConfig`:
        num_plan_positions: length of the position table, the longest possible plan.

    Raises ValueError for an unknown field and for encoders of another width.
    """

    model_type = "internnav_navdp_action_expert"
    uses_depth = True

    num_rgbd_queries: int = 32
    num_plan_positions: int = 5000
    num_diffusion_steps: int = 20


class NavDPConfig(NavDPTrunkConfig):
    """NavDP: RGB-D memory, encoders of goals, denoiser, critic. The defaults are the published.

    Fields, in addition to those of `NavDPTrunkConfig`:
        num_memory_frames: colour frames that the model sees, the current one last.
        goal_vision_config: the encoders of goal images and goal pixels; `depth_vision_config` if
            not given.
        num_pixel_goal_channels: 4, the view in which the pixel was marked and the mask; or 7, the
            current view in addition.
        goal_kinds: kinds of goals that the model is trained for, of "point", "image", "pixel" and
            "none". Other kinds are not built, and refused as goals.
        has_auxiliary_heads: whether the goal's position is also predicted from image and pixel
            goals.
        action_loss_weight, critic_loss_weight, auxiliary_loss_weight: weights in the loss.
        no_goal_share: weight of the loss without a goal in the action loss.
        channel_order: order of the model's input colours, "rgb" or "bgr". The NavDP repository
            uses BGR for its released weights; InternNav trains with RGB.
        camera: the robot's camera in training, as `CameraSpec.to_dict` gives it; a list of
            different ones, None if it is not known.

    Raises ValueError for an unknown field and for sizes that do not fit each other.
    """

    model_type = "internnav_navdp"
    sub_configs = NavDPTrunkConfig.sub_configs | {"goal_vision_config": Dinov2Config}

    num_memory_frames: int = 8
    goal_vision_config: dict | PreTrainedConfig | None = None
    num_pixel_goal_channels: int = 4
    goal_kinds: tuple[str, ...] | list[str] = GOAL_KINDS
    has_auxiliary_heads: bool = True
    action_loss_weight: float = 0.8
    critic_loss_weight: float = 0.2
    auxiliary_loss_weight: float = 0.5
    no_goal_share: float = 0.5
    channel_order: str = "rgb"
    camera: dict | list[dict] | None = None

    def __post_init__(self, **kwargs):
        if self.goal_vision_config is None:
            self.goal_vision_config = self.depth_vision_config
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise ValueError for invalid values and for sizes that do not fit each other."""
        super().check()
        self.expect_positive("num_memory_frames")
        self.expect_one_of(num_pixel_goal_channels=(4, 7), channel_order=CHANNEL_ORDERS)
        kinds = self.goal_kinds
        are_kinds = bool(kinds) and len(set(kinds)) == len(kinds) and set(kinds) <= set(GOAL_KINDS)
        self.expect("goal_kinds", are_kinds, f"some of {GOAL_KINDS}")
