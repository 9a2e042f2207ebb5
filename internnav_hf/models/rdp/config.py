"""Configuration of RDP, the recurrent diffusion policy of VLN-PE (arXiv 2507.13019).

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from transformers import CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig

from internnav_hf.models.common.clip_config import (
    CLIP_MEAN,
    CLIP_STD,
    check_clip,
    read_clip_text_config,
    read_clip_vision_config,
)
from internnav_hf.models.common.config import (
    OwnFieldsWin,
    check_divides,
    check_positive,
    refuse_unknown,
)

GUIDANCE_MASKS = ("drop", "additive")
HEADINGS = ("wrapped", "difference")
# Mistakes with which the released weights were trained and are run.
PUBLISHED_MISTAKES = {
    "guidance_mask": "additive",
    "guidance_drifts": True,
    "relative_heading": "difference",
    "padded_loss": True,
    "loss_epsilon": 0.01,
    "state_updates_per_decision": 2,
}
_COUNTS = (
    "hidden_size", "image_size", "depth_size", "depth_base_planes", "action_horizon",
    "num_previous_displacements", "num_cross_modal_layers", "num_denoiser_layers",
    "num_condition_layers", "num_diffusion_steps", "state_updates_per_decision",
)  # fmt: skip


class RDPConfig(OwnFieldsWin, PreTrainedConfig):
    """RDP: encoders, recurrent state, cross-modal encoders, denoiser. Sizes are the published.

    Fields:
        text_config, vision_config: CLIP's towers, as their configurations or dicts; fields missing
            from a dict are Long-CLIP-B's. The text tower is as wide as `hidden_size`.
        train_text_encoder, train_rgb_encoder, train_depth_encoder: whether they are trained.
        image_size, depth_size: height and width in pixels of colour and depth frames.
        image_mean, image_std: normalisation of colours, after scaling to [0, 1]; None for none.
        max_depth: metres; depth is clipped to it and divided by it.
        depth_base_planes, depth_num_blocks, depth_feature_channels: sizes of the depth ResNet.
        depth_hidden_size: width of the first layer after the depth ResNet.
        hidden_size: width of the state and of all tokens.
        num_previous_displacements: number of last steps in the model's input.
        previous_displacement_size, pose_size: widths of the state's inputs for the last step and
            for the pose since the start.
        num_cross_modal_layers, num_cross_modal_attention_heads, cross_modal_intermediate_size:
            sizes of both cross-modal encoders.
        action_horizon: number of predicted displacements.
        displacement_min, displacement_max: dx, dy, dyaw in metres and radians that become -1 and 1.
        relative_heading: heading since the start. "wrapped" is an angle in [-pi, pi); "difference",
            as published, is the difference of two such angles, which jumps by 2 pi when the robot
            turns through the world's -x.
        use_diffusion: False predicts displacements directly.
        denoiser_hidden_size, num_denoiser_attention_heads, num_denoiser_layers,
            num_condition_layers: sizes of the denoiser.
        num_diffusion_steps: length of the noise schedule.
        image_dropout, feature_dropout: of image tokens, and of colour features before them.
        cross_modal_dropout, denoiser_dropout, embedding_dropout: the last is that of the denoiser's
            inputs.
        view_drop_share, condition_drop_share: share of training steps without views, and of those
            predicted without images and instruction, for guidance.
        guidance_scale: scale of classifier-free guidance in sampling; 1 for none.
        guidance_mask: "drop" masks images and instruction in the unconditional branch; "additive",
            as published, adds 1 to the logits of the tokens to be masked.
        guidance_drifts: as published, the conditional and unconditional branches are denoised as
            two chains with independent noise, and the last step is not guided.
        padded_loss: as published, padded steps count as steps.
        loss_epsilon: added to the share of valid steps in a batch when losses are divided by it;
            0.01 as published.
        progress_loss_weight, stop_loss_weight: weights in the loss.
        state_updates_per_decision: 2 as published: a step at which displacements are predicted
            advances the state twice; in training it advances once.

    Raises ValueError for an unknown field and for sizes that do not fit each other.
    """

    model_type = "internnav_rdp"
    sub_configs = {  # pyright: ignore[reportAssignmentType]
        "text_config": CLIPTextConfig,
        "vision_config": CLIPVisionConfig,
    }

    keys_to_ignore_at_inference = ["recurrent_state"]

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    train_text_encoder: bool = False
    train_rgb_encoder: bool = False
    train_depth_encoder: bool = False
    image_size: int = 224
    depth_size: int = 256
    image_mean: tuple[float, ...] | list[float] | None = CLIP_MEAN
    image_std: tuple[float, ...] | list[float] | None = CLIP_STD
    max_depth: float = 10.0
    depth_base_planes: int = 32
    depth_num_blocks: tuple[int, ...] | list[int] = (3, 4, 6, 3)
    depth_feature_channels: int = 128
    depth_hidden_size: int = 768
    hidden_size: int = 512
    num_previous_displacements: int = 4
    previous_displacement_size: int = 64
    pose_size: int = 64
    num_cross_modal_layers: int = 2
    num_cross_modal_attention_heads: int = 8
    cross_modal_intermediate_size: int = 3072
    action_horizon: int = 8
    displacement_min: tuple[float, ...] | list[float] = (-0.25, -0.25, -0.27)
    displacement_max: tuple[float, ...] | list[float] = (0.25, 0.25, 0.27)
    relative_heading: str = "wrapped"
    use_diffusion: bool = True
    denoiser_hidden_size: int = 512
    num_denoiser_attention_heads: int = 8
    num_denoiser_layers: int = 3
    num_condition_layers: int = 1
    num_diffusion_steps: int = 20
    image_dropout: float = 0.1
    feature_dropout: float = 0.3
    cross_modal_dropout: float = 0.1
    denoiser_dropout: float = 0.1
    embedding_dropout: float = 0.2
    view_drop_share: float = 0.25
    condition_drop_share: float = 0.25
    guidance_scale: float = 1.5
    guidance_mask: str = "drop"
    guidance_drifts: bool = False
    padded_loss: bool = False
    loss_epsilon: float = 0.0
    progress_loss_weight: float = 1.0
    stop_loss_weight: float = 10.0
    state_updates_per_decision: int = 1

    def __post_init__(self, **kwargs):
        refuse_unknown(type(self), kwargs)
        self.depth_num_blocks = tuple(self.depth_num_blocks)
        self.displacement_min = tuple(self.displacement_min)
        self.displacement_max = tuple(self.displacement_max)
        self.text_config = read_clip_text_config(self.text_config)
        vision = self.vision_config
        if not isinstance(vision, PreTrainedConfig):
            vision = {"image_size": self.image_size} | (vision or {})
        self.vision_config = read_clip_vision_config(vision)
        super().__post_init__(**kwargs)
        self._check()

    def _check(self) -> None:
        for name in _COUNTS:
            check_positive(self, name)
        check_clip(self)
        check_divides(self, "hidden_size", "num_cross_modal_attention_heads")
        check_divides(self, "denoiser_hidden_size", "num_denoiser_attention_heads")
        text_size = self.text_config.hidden_size  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        self._expect("hidden_size", text_size == self.hidden_size, f"that of text, {text_size}")
        self._expect("guidance_mask", self.guidance_mask in GUIDANCE_MASKS, str(GUIDANCE_MASKS))
        self._expect("relative_heading", self.relative_heading in HEADINGS, str(HEADINGS))
        self._expect("state_updates_per_decision", self.state_updates_per_decision < 3, "1 or 2")
        self._expect("max_depth", self.max_depth > 0, "metres, more than 0")
        self._expect("depth_base_planes", self.depth_base_planes % 2 == 0, "an even number")
        both = (self.image_mean is None) == (self.image_std is None)
        self._expect("image_std", both, "as image_mean: three numbers each, or neither")
        low, high = self.displacement_min, self.displacement_max
        wider = len(low) == len(high) == 3 and all(a < b for a, b in zip(low, high, strict=True))
        self._expect("displacement_max", wider, f"three numbers over displacement_min={low}")
        for name in ("view_drop_share", "condition_drop_share"):
            self._expect(name, 0 <= getattr(self, name) <= 1, "a share, of 0..1")

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            found = getattr(self, name)
            raise ValueError(f"RDPConfig: {name}: found {found!r}, expected {expected}.")
