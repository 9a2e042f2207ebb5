"""Configuration of RDP, the recurrent diffusion policy of VLN-PE (arXiv 2507.13019).

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from internnav_hf.models.common.clip_config import CLIP_MEAN, CLIP_STD
from internnav_hf.models.vln.config import ClipFollowerConfig

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


class RDPConfig(ClipFollowerConfig):
    """RDP: encoders, recurrent state, cross-modal encoders, denoiser. Sizes are the published.

    Fields, in addition to those of `ClipFollowerConfig`:
        num_previous_displacements: number of last steps in the model's input.
        previous_displacement_size, pose_size: widths of the state's inputs for the last step and
            for the pose since the start.
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
        denoiser_dropout, embedding_dropout: the latter is that of the denoiser's inputs.
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
        stop_loss_weight: weight in the loss.
        state_updates_per_decision: 2 as published: a step at which displacements are predicted
            advances the state twice; in training it advances once.

    Raises ValueError for an unknown field and for sizes that do not fit each other.
    """

    model_type = "internnav_rdp"

    image_size: int = 224
    image_mean: tuple[float, ...] | list[float] | None = CLIP_MEAN
    image_std: tuple[float, ...] | list[float] | None = CLIP_STD
    depth_hidden_size: int = 768
    num_previous_displacements: int = 4
    previous_displacement_size: int = 64
    pose_size: int = 64
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
    denoiser_dropout: float = 0.1
    embedding_dropout: float = 0.2
    view_drop_share: float = 0.25
    condition_drop_share: float = 0.25
    guidance_scale: float = 1.5
    guidance_mask: str = "drop"
    guidance_drifts: bool = False
    padded_loss: bool = False
    loss_epsilon: float = 0.0
    stop_loss_weight: float = 10.0
    state_updates_per_decision: int = 1

    def __post_init__(self, **kwargs):
        self.read_towers()
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise ValueError for invalid values and for sizes that do not fit each other."""
        super().check()
        self.expect_positive("action_horizon", "num_previous_displacements", "num_denoiser_layers")
        self.expect_positive("num_condition_layers", "num_diffusion_steps")
        self.check_towers()
        self.expect_multiple("denoiser_hidden_size", "num_denoiser_attention_heads")
        self.expect_one_of(
            guidance_mask=GUIDANCE_MASKS,
            relative_heading=HEADINGS,
            state_updates_per_decision=(1, 2),
        )
        low, high = self.displacement_min, self.displacement_max
        wider = len(low) == len(high) == 3 and all(a < b for a, b in zip(low, high, strict=True))
        self.expect("displacement_max", wider, f"three numbers over displacement_min={low}")
        for name in ("view_drop_share", "condition_drop_share"):
            self.expect(name, 0 <= getattr(self, name) <= 1, "a share, of 0..1")
