"""Configuration of the NextDiT action expert.

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from transformers import Dinov2Config, PreTrainedConfig

from internnav_hf.models.common.config import (
    OwnFieldsWin,
    check_divides,
    check_tiles,
    read_dino_config,
    refuse_unknown,
)


class NextDiTConfig(OwnFieldsWin, PreTrainedConfig):
    """NextDiT: denoiser, view encoder, memory. The defaults are DualVLN's.

    Fields:
        plan_hidden_size: width of System2, whose plan the expert reads.
        action_horizon: steps of a trajectory.
        image_size: pixels on each side of the square views.
        action_scale: factors of (dx, dy, dyaw) before diffusion.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: sizes of the
            denoiser.
        condition_size: width of the tokens that the denoiser attends to. With images it is twice
            the encoder's: each token is concatenated with its output of the memory encoder.
        use_images: False is the older `nextdit`, which sees the plan only.
        vision_config: the DINOv2 that encodes the views, or a dict of it.
        num_memory_layers, num_memory_heads, memory_intermediate_size: sizes of the memory encoder,
            which relates the view of the decision to the current one.
        num_resampler_layers, num_resampler_heads, resampler_intermediate_size,
            num_resampler_queries: sizes of the query resampler, which makes few tokens of many.
        dropout: in the memory encoder and the resampler.
        num_inference_steps, guidance_scale: `sample`'s defaults. At 1.0 guidance costs nothing.

    Raises ValueError for an unknown field, and for sizes that do not fit each other.
    """

    model_type = "internnav_nextdit"
    uses_depth = False
    sub_configs = {"vision_config": Dinov2Config}  # pyright: ignore[reportAssignmentType]

    plan_hidden_size: int = 3584
    action_horizon: int = 32
    image_size: int = 224
    action_scale: tuple[float, ...] | list[float] = (4.0, 4.0, 1.0)
    hidden_size: int = 384
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    intermediate_size: int = 1024
    condition_size: int = 768
    use_images: bool = True
    vision_config: dict | PreTrainedConfig | None = None
    num_memory_layers: int = 3
    num_memory_heads: int = 6
    memory_intermediate_size: int = 2048
    num_resampler_layers: int = 3
    num_resampler_heads: int = 12
    resampler_intermediate_size: int = 2048
    num_resampler_queries: int = 32
    dropout: float = 0.1
    num_inference_steps: int = 10
    guidance_scale: float = 1.0

    def __post_init__(self, **kwargs):
        refuse_unknown(type(self), kwargs)
        self.vision_config = read_dino_config(self.vision_config)
        super().__post_init__(**kwargs)
        check_divides(self, "hidden_size", "num_attention_heads")
        if self.use_images:
            check_tiles(self, "vision_config")
            if self.condition_size != 2 * self.vision_config.hidden_size:
                raise ValueError(
                    f"condition_size={self.condition_size} must be twice "
                    f"vision_config.hidden_size={self.vision_config.hidden_size}."
                )
            check_divides(self, "condition_size", "num_resampler_heads")
