"""Configuration of the NextDiT action expert.

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from transformers import Dinov2Config, PreTrainedConfig

from internnav_hf.models.common.config import ActionExpertConfig, read_dino_config


class NextDiTConfig(ActionExpertConfig):
    """NextDiT: denoiser, view encoder, memory. The defaults are DualVLN's.

    Fields, in addition to those of `ActionExpertConfig`:
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
    sub_configs = {"vision_config": Dinov2Config}

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
        self.vision_config = read_dino_config(self.vision_config)
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise ValueError for sizes that do not fit each other."""
        self.expect_multiple("hidden_size", "num_attention_heads")
        if self.use_images:
            self.expect_multiple("image_size", "vision_config.patch_size")
            width = self.vision_config.hidden_size
            is_twice = self.condition_size == 2 * width
            self.expect("condition_size", is_twice, f"twice vision_config.hidden_size={width}")
            self.expect_multiple("condition_size", "num_resampler_heads")
