"""Configuration of System2: any Qwen-VL by composition, and a pixel-goal head.

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

import re
from collections.abc import Callable, Collection

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from internnav_hf.models.common.config import NavConfig, read_sub_config

_DUAL_TYPES = ("internnav_dual_system", "internvla_n1")


class System2Config(NavConfig):
    """System2 = `vlm_config` (Qwen2-VL, Qwen2.5-VL or Qwen3-VL) + a pixel-goal head.

    Fields:
        vlm_config: configuration of the vision-language model, or a dict of it with its
            `model_type`.
        use_pixel_goal_head: whether there is a head next to the text answer. False is exactly the
            published model.
        pixel_goal_loss_weight: weight of `pixel_goal_loss` added to `language_loss`. 0 is exactly
            the published recipe.
        head_hidden_size: width of the head's queries and keys.
        image_width, image_height: size in pixels of the look-down image that goal pixels refer to.
        landmark_loss_weight: weight of the auxiliary loss that classifies whether each visual token
            shows the object named in the instruction. It needs masks that only a simulator has; 0
            leaves it and its weights out.

    `from_pretrained` also reads the configuration of a plain Qwen-VL, such as the released
    InternVLA-N1-System2, as a System2 without head. Raises ValueError for an unknown field.
    """

    model_type = "internnav_system2"
    sub_configs = {"vlm_config": AutoConfig}

    # what is not of one size for every sample, or none of a sample
    keys_to_ignore_at_inference = ["logits", "heatmap"]

    vlm_config: dict | PreTrainedConfig | None = None
    use_pixel_goal_head: bool = True
    pixel_goal_loss_weight: float = 1.0
    head_hidden_size: int = 512
    image_width: int = 640
    image_height: int = 480
    landmark_loss_weight: float = 0.0
    tie_word_embeddings: bool = False  # set from the VLM's

    def __post_init__(self, **kwargs):
        default = {"model_type": "qwen2_5_vl"}
        self.vlm_config = read_sub_config(AutoConfig.for_model, self.vlm_config, default)
        _check_is_qwen_vl(self.vlm_config)
        super().__post_init__(**kwargs)
        self.tie_word_embeddings = self.vlm_config.tie_word_embeddings

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """The dict on disk; that of a plain Qwen-VL is wrapped as a System2 without head."""
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        _check_is_system2(config_dict, pretrained_model_name_or_path)
        if config_dict.get("model_type", cls.model_type) != cls.model_type:
            wrapped = {"vlm_config": config_dict, "use_pixel_goal_head": False}
            config_dict = {"model_type": cls.model_type, **wrapped}
        return config_dict, kwargs

    @property
    def hidden_size(self) -> int:
        """Hidden size of the language model; DeepSpeed's `auto` sizes follow it."""
        return self.get_text_config().hidden_size

    def get_text_config(self, *args, **kwargs):
        """The language model's part of `vlm_config`."""
        return self.vlm_config.get_text_config(*args, **kwargs)


def is_released(family: str, stored: dict, names: Callable[[], Collection[str]]) -> bool:
    """Whether `stored` is the configuration of a plain Qwen-VL, as released System2s are."""
    return bool(re.match(r"qwen\d.*_vl(_|$)", str(stored.get("model_type"))))


def _check_is_system2(stored: dict, path) -> None:
    """Raise ValueError for the configuration of another kind of model."""
    found = stored.get("model_type")
    if found in _DUAL_TYPES or stored.get("system1") is not None:
        raise ValueError(
            f"{path}: found a dual system, expected a System2: open it by DualSystemModel or "
            "DualSystemPolicy, whose `system2` is its System2."
        )
    if not isinstance(found, str) or found not in CONFIG_MAPPING:
        raise ValueError(f"{path}: model_type: found {found!r}, expected a System2 or a Qwen-VL.")


def _check_is_qwen_vl(config: PreTrainedConfig) -> None:
    vision = getattr(config, "vision_config", None)
    needed = {"image_token_id": config, "vision_start_token_id": config}
    needed["spatial_merge_size"] = vision
    missing = [name for name, part in needed.items() if getattr(part, name, None) is None]
    if missing:
        raise ValueError(
            f"vlm_config: found a {config.model_type} without {', '.join(missing)}, expected a "
            "Qwen-VL."
        )
