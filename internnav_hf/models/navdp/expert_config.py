"""Configuration of NavDP*, the RGB-D action expert.

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from transformers import Dinov2Config, PreTrainedConfig

from internnav_hf.models.common.config import (
    OwnFieldsWin,
    check_navdp_trunk,
    read_dino_config,
    refuse_unknown,
)


class NavDPActionExpertConfig(OwnFieldsWin, PreTrainedConfig):
    """NavDP*: RGB-D encoder, plan compressor, denoiser. The defaults are the released model's.

    Fields:
        plan_hidden_size: width of the plans, that of System2.
        action_horizon: steps of a trajectory.
        image_size: height and width in pixels of the frames.
        action_scale: factors of (dx, dy, dyaw) before diffusion, whose range is [-1, 1].
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: sizes of the
            denoiser. The RGB-D encoder has the same width.
        num_rgbd_queries: tokens that the RGB-D encoder makes of the two views.
        num_rgbd_layers, num_rgbd_attention_heads, rgbd_intermediate_size: sizes of its decoder.
        vision_config, depth_vision_config: the DINOv2 encoders of colour and of depth, as
            `Dinov2Config` or dicts; both as wide as `hidden_size`.
        train_rgb_encoder: whether the colour encoder is trained. In the released model it is not.
        num_plan_positions: length of the position table, the longest possible plan.
        num_diffusion_steps: length of the noise schedule.
        dropout: in the denoiser and in the RGB-D encoder's decoder.

    Raises ValueError for an unknown field and for encoders of another width.
    """

    model_type = "internnav_navdp_action_expert"
    uses_depth = True
    sub_configs = {"vision_config": Dinov2Config, "depth_vision_config": Dinov2Config}  # pyright: ignore[reportAssignmentType]

    plan_hidden_size: int = 3584
    action_horizon: int = 32
    image_size: int = 224
    action_scale: tuple[float, ...] | list[float] = (4.0, 4.0, 1.0)
    hidden_size: int = 384
    num_hidden_layers: int = 16
    num_attention_heads: int = 8
    intermediate_size: int = 1536
    num_rgbd_queries: int = 32
    num_rgbd_layers: int = 2
    num_rgbd_attention_heads: int = 8
    rgbd_intermediate_size: int = 2048
    vision_config: dict | PreTrainedConfig | None = None
    depth_vision_config: dict | PreTrainedConfig | None = None
    train_rgb_encoder: bool = False
    num_plan_positions: int = 5000
    num_diffusion_steps: int = 20
    dropout: float = 0.1

    def __post_init__(self, **kwargs):
        refuse_unknown(type(self), kwargs)
        self.action_scale = tuple(self.action_scale)
        self.vision_config = read_dino_config(self.vision_config)
        self.depth_vision_config = read_dino_config(self.depth_vision_config)
        super().__post_init__(**kwargs)
        check_navdp_trunk(self)
