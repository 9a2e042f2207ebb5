"""Configuration of CMA, the cross-modal attention policy of VLN-CE (arXiv 2004.02857).

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from transformers import CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig, ResNetConfig

from internnav_hf.models.common.clip_config import (
    check_clip,
    read_clip_text_config,
    read_clip_vision_config,
)
from internnav_hf.models.common.config import check_divides
from internnav_hf.models.vln.config import RecurrentVLNConfig


class CMAConfig(RecurrentVLNConfig):
    """CMA: the fields of `RecurrentVLNConfig`. Attention is half as wide as `hidden_size`.

    Fields:
        use_clip: whether CLIP's towers encode words and views, and cross-modal encoders both; then
            `vocab_size` is that of `text_config`, and the fields of the LSTM, `rgb_config` and
            batch norm are unused. Set `image_mean` and `image_std`, and `image_size` to 224, for
            CLIP's own.
        text_config, vision_config: CLIP's towers, as their configurations or dicts; fields missing
            from a dict are Long-CLIP-B's. The text tower is as wide as `hidden_size`.
        train_text_encoder: whether it is trained.
        num_cross_modal_layers, num_cross_modal_attention_heads, cross_modal_intermediate_size,
            cross_modal_dropout: settings of the three cross-modal encoders.
    """

    model_type = "internnav_cma"
    sub_configs = {  # pyright: ignore[reportAssignmentType]
        "rgb_config": ResNetConfig,
        "text_config": CLIPTextConfig,
        "vision_config": CLIPVisionConfig,
    }

    use_clip: bool = False
    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    train_text_encoder: bool = False
    num_cross_modal_layers: int = 2
    num_cross_modal_attention_heads: int = 8
    cross_modal_intermediate_size: int = 3072
    cross_modal_dropout: float = 0.1

    def __post_init__(self, **kwargs):
        if self.use_clip:
            self.text_config = read_clip_text_config(self.text_config)
            vision = self.vision_config
            if not isinstance(vision, PreTrainedConfig):
                vision = {"image_size": self.image_size} | (vision or {})
            self.vision_config = read_clip_vision_config(vision)
            self.vocab_size = self.text_config.vocab_size  # pyright: ignore[reportAttributeAccessIssue]
        else:
            for name in ("text_config", "vision_config"):
                self._expect(name, getattr(self, name) is None, "None without use_clip")
        super().__post_init__(**kwargs)

    def _check(self) -> None:
        super()._check()
        self._expect("hidden_size", self.hidden_size % 2 == 0, "even")
        if not self.use_clip:
            return
        check_clip(self)
        check_divides(self, "hidden_size", "num_cross_modal_attention_heads")
        text_size = self.text_config.hidden_size  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        self._expect("hidden_size", text_size == self.hidden_size, f"that of text, {text_size}")
