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
# What the released weights were trained and are run with, where that is a mistake.
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
        text_config, vision_config: of CLIP's towers, as their configurations or dicts; what a dict
            leaves out is as in Long-CLIP-B. The text tower is as wide as `hidden_size`.
        train_text_encoder, train_rgb_encoder, train_depth_encoder: whether they learn.
        image_size, depth_size: height and width in pixels of colour and depth frames.
        image_mean, image_std: of the colours, taken off after they are brought to [0, 1]; None for
            as they are.
        max_depth: metres; farther is as far, and depth goes in as a share of it.
        depth_base_planes, depth_num_blocks, depth_feature_channels: of the ResNet for depth.
        depth_hidden_size: of what is made of depth first.
        hidden_size: of the state and of all tokens.
        num_previous_displacements: of the last steps, that the model is told.
        previous_displacement_size, pose_size: of what the state sees of the last step, and of the
            way from the start.
        num_cross_modal_layers, num_cross_modal_attention_heads, cross_modal_intermediate_size: of
            both cross-modal encoders.
        action_horizon: displacements that are predicted.
        displacement_min, displacement_max: dx, dy, dyaw in metres and radians that become -1 and 1.
        relative_heading: "wrapped" tells the heading since the start as an angle in [-pi, pi);
            "difference", as published, as the difference of two such angles, which jumps by 2 pi
            where the robot turns through the world's -x.
        use_diffusion: False predicts displacements at once.
        denoiser_hidden_size, num_denoiser_attention_heads, num_denoiser_layers,
            num_condition_layers: of the denoiser.
        num_diffusion_steps: of the noise schedule.
        image_dropout, feature_dropout: of image tokens, and of colour features before them.
        cross_modal_dropout, denoiser_dropout, embedding_dropout: the last is the denoiser's, of its
            inputs.
        view_drop_share, condition_drop_share: of steps in training that see nothing, and of those
            whose displacements are predicted without images and instruction, for guidance.
        guidance_scale: of classifier-free guidance in sampling; 1 for none.
        guidance_mask: "drop" hides images and instruction from what goes without; "additive", as
            published, adds 1 to the logits of what was to be hidden.
        guidance_drifts: as published, what goes with and what goes without images and instruction
            are two samples that draw their own noise, and the last step is not guided.
        padded_loss: as published, padded steps count as steps.
        loss_epsilon: of the share of valid steps in a batch, added where losses are divided by it;
            0.01 as published.
        progress_loss_weight, stop_loss_weight: of the loss's parts.
        state_updates_per_decision: 2 as published, where a step at which displacements are
            predicted advances the state twice; in training there is one.

    Raises ValueError for an unknown field and for sizes that do not go together.
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
