"""Configuration of NavDP: trajectories to a point, an image or a pixel, or for exploration.

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from transformers import Dinov2Config, PreTrainedConfig

from internnav_hf.models.common.config import (
    OwnFieldsWin,
    check_navdp_trunk,
    check_positive,
    check_tiles,
    read_dino_config,
    refuse_unknown,
)

# Kinds of goals in a slot, in the order of `goal_slots`; then no goal.
SLOT_KINDS = ("point", "image", "pixel")
GOAL_KINDS = (*SLOT_KINDS, "none")
CHANNEL_ORDERS = ("rgb", "bgr")


class NavDPConfig(OwnFieldsWin, PreTrainedConfig):
    """NavDP: RGB-D memory, encoders of goals, denoiser, critic. The defaults are the published.

    Fields:
        num_memory_frames: colour frames that the model sees, the current one last.
        action_horizon: steps of a trajectory.
        image_size: height and width in pixels of all frames.
        action_scale: factors of (dx, dy, dyaw) before diffusion, whose range is [-1, 1].
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: sizes of the
            denoiser. The RGB-D encoder has the same width.
        num_rgbd_queries: tokens that the RGB-D encoder makes of memory and depth.
        num_rgbd_layers, num_rgbd_attention_heads, rgbd_intermediate_size: sizes of its decoder.
        vision_config, depth_vision_config: the DINOv2 encoders of colour and of depth, as
            `Dinov2Config` or dicts; both as wide as `hidden_size`.
        goal_vision_config: the encoders of goal images and goal pixels; `depth_vision_config` if
            not given.
        train_rgb_encoder: whether the colour encoder is trained. In the released model it is not.
        num_pixel_goal_channels: 4, the view in which the pixel was marked and the mask; or 7, the
            current view in addition.
        goal_kinds: kinds of goals that the model is trained for, of "point", "image", "pixel" and
            "none". Other kinds are not built, and refused as goals.
        has_auxiliary_heads: whether the goal's position is also predicted from image and pixel
            goals.
        num_diffusion_steps: length of the noise schedule.
        dropout: in the denoiser and in the RGB-D encoder's decoder.
        action_loss_weight, critic_loss_weight, auxiliary_loss_weight: weights in the loss.
        no_goal_share: weight of the loss without a goal in the action loss.
        channel_order: order of the model's input colours, "rgb" or "bgr". The NavDP repository
            uses BGR for its released weights; InternNav trains with RGB.
        camera: the robot's camera in training, as `CameraSpec.to_dict` gives it; a list of
            different ones, None if it is not known.

    Raises ValueError for an unknown field and for sizes that do not fit each other.
    """

    model_type = "internnav_navdp"
    sub_configs = {  # pyright: ignore[reportAssignmentType]
        "vision_config": Dinov2Config,
        "depth_vision_config": Dinov2Config,
        "goal_vision_config": Dinov2Config,
    }

    num_memory_frames: int = 8
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
    goal_vision_config: dict | PreTrainedConfig | None = None
    train_rgb_encoder: bool = False
    num_pixel_goal_channels: int = 4
    goal_kinds: tuple[str, ...] | list[str] = GOAL_KINDS
    has_auxiliary_heads: bool = True
    num_diffusion_steps: int = 10
    dropout: float = 0.1
    action_loss_weight: float = 0.8
    critic_loss_weight: float = 0.2
    auxiliary_loss_weight: float = 0.5
    no_goal_share: float = 0.5
    channel_order: str = "rgb"
    camera: dict | list[dict] | None = None

    def __post_init__(self, **kwargs):
        refuse_unknown(type(self), kwargs)
        self.action_scale = tuple(self.action_scale)
        self.goal_kinds = tuple(self.goal_kinds)
        if self.goal_vision_config is None:
            self.goal_vision_config = self.depth_vision_config
        for name in self.sub_configs:
            setattr(self, name, read_dino_config(getattr(self, name)))
        super().__post_init__(**kwargs)
        check_navdp_trunk(self)
        check_tiles(self, "goal_vision_config")
        check_positive(self, "num_memory_frames")
        self._check_choices()

    def _check_choices(self) -> None:
        allowed = {"num_pixel_goal_channels": (4, 7), "channel_order": CHANNEL_ORDERS}
        for name, choices in allowed.items():
            found = getattr(self, name)
            if found not in choices:
                raise ValueError(
                    f"NavDPConfig: {name}: found {found!r}, expected one of {choices}."
                )
        kinds = self.goal_kinds
        if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(GOAL_KINDS):
            raise ValueError(
                f"NavDPConfig: goal_kinds: found {kinds}, expected some of {GOAL_KINDS}."
            )
