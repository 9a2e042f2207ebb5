"""Configurations of Seq2Seq and CMA, the recurrent policies of VLN-CE (arXiv 2004.02857), and the
bases that they share with each other and with RDP's.

Apart from the models' files so that `import internnav_hf` can register them without importing
modelling code.
"""

from transformers import CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig, ResNetConfig

from internnav_hf.models.common.clip_config import GRID, LONG_CLIP_TEXT, LONG_CLIP_VISION
from internnav_hf.models.common.config import NavConfig, read_sub_config

BATCH_NORM_MODES = ("running", "training", "always")
RNN_TYPES = ("lstm", "gru")
INPUTS = ("instruction", "rgb", "depth")


class FollowerConfig(NavConfig):
    """Fields of all three, which read colours and depth into a recurrent state.

    Fields:
        image_size, depth_size: height and width in pixels of colour and depth frames.
        image_mean, image_std: normalisation of colours, after scaling to [0, 1]; None for none.
        max_depth: metres; depth is clipped to it and divided by it.
        depth_base_planes, depth_num_blocks, depth_feature_channels: sizes of the depth ResNet.
        depth_hidden_size: width of the first layer after it.
        hidden_size: width of the recurrent state.
        progress_loss_weight: weight in the loss of the predicted progress.
        train_rgb_encoder, train_depth_encoder: whether they are trained.
    """

    keys_to_ignore_at_inference = ["recurrent_state"]

    image_size: int = 256
    depth_size: int = 256
    image_mean: tuple[float, ...] | list[float] | None = None
    image_std: tuple[float, ...] | list[float] | None = None
    max_depth: float = 10.0
    depth_base_planes: int = 32
    depth_num_blocks: tuple[int, ...] | list[int] = (3, 4, 6, 3)
    depth_feature_channels: int = 128
    depth_hidden_size: int = 128
    hidden_size: int = 512
    progress_loss_weight: float = 1.0
    train_rgb_encoder: bool = False
    train_depth_encoder: bool = False

    def check(self) -> None:
        """Raise ValueError for invalid values."""
        self.expect_positive("image_size", "depth_size", "hidden_size", "depth_base_planes")
        self.expect("depth_base_planes", self.depth_base_planes % 2 == 0, "an even number")
        self.expect("max_depth", self.max_depth > 0, "metres, more than 0")
        both = (self.image_mean is None) == (self.image_std is None)
        self.expect("image_std", both, "as image_mean: three numbers each, or neither")


class ClipFollowerConfig(FollowerConfig):
    """Fields of RDP, and of CMA over CLIP: CLIP's towers and cross-modal encoders.

    Fields, in addition to those of `FollowerConfig`:
        text_config, vision_config: CLIP's towers, as their configurations or dicts; fields missing
            from a dict are Long-CLIP-B's. The text tower is as wide as `hidden_size`.
        train_text_encoder: whether it is trained.
        num_cross_modal_layers, num_cross_modal_attention_heads, cross_modal_intermediate_size,
            cross_modal_dropout: settings of all cross-modal encoders.
    """

    sub_configs = {"text_config": CLIPTextConfig, "vision_config": CLIPVisionConfig}

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    train_text_encoder: bool = False
    num_cross_modal_layers: int = 2
    num_cross_modal_attention_heads: int = 8
    cross_modal_intermediate_size: int = 3072
    cross_modal_dropout: float = 0.1

    def read_towers(self) -> None:
        """Make configurations of the towers' dicts; the image size is the model's unless given."""
        vision = LONG_CLIP_VISION | {"image_size": self.image_size}
        self.text_config = read_sub_config(CLIPTextConfig, self.text_config, LONG_CLIP_TEXT)
        self.vision_config = read_sub_config(CLIPVisionConfig, self.vision_config, vision)

    def check_towers(self) -> None:
        """Raise ValueError if the vision tower's image size differs from the model's, if its
        patches do not divide into a grid of `GRID` by `GRID`, or if the text tower or the heads of
        the cross-modal encoders do not fit `hidden_size`.
        """
        size, patch_size = self.image_size, self.vision_config.patch_size
        has_size = self.vision_config.image_size == size
        self.expect("vision_config.image_size", has_size, f"image_size={size}")
        patches = f"a multiple of {GRID} patches of {patch_size} pixels"
        self.expect("image_size", size % (GRID * patch_size) == 0, patches)
        self.expect_positive("num_cross_modal_layers")
        self.expect_multiple("hidden_size", "num_cross_modal_attention_heads")
        text_size = self.text_config.hidden_size
        self.expect("hidden_size", text_size == self.hidden_size, f"that of text, {text_size}")


class RecurrentVLNConfig(FollowerConfig):
    """Sizes of encoders, state and heads. The defaults are the published ones.

    Fields, in addition to those of `FollowerConfig`:
        vocab_size, embedding_size: sizes of the table of words; id 0 is padding.
        instruction_hidden_size: width of the instruction's LSTM, in one direction.
        instruction_rnn_type: "lstm", or "gru".
        rgb_config: the colour ResNet, as `ResNetConfig` or a dict; ResNet-50 if not given.
        batch_norm_mode: of that ResNet, "running", "training" or "always", see `rgb_resnet`.
        rgb_hidden_size: width of the projected colour features.
        action_embedding_size: width of the embedded previous action.
        has_progress_monitor: whether the model predicts which share of the path it has covered.
        train_word_embeddings: whether the table of words is trained.
        ablated_inputs: those of "instruction", "rgb" and "depth" that are replaced by zeros.

    Raises ValueError for an unknown field and for invalid values.
    """

    sub_configs = {"rgb_config": ResNetConfig}

    vocab_size: int = 2504
    embedding_size: int = 50
    instruction_hidden_size: int = 128
    instruction_rnn_type: str = "lstm"
    rgb_config: dict | PreTrainedConfig | None = None
    batch_norm_mode: str = "running"
    rgb_hidden_size: int = 256
    action_embedding_size: int = 32
    has_progress_monitor: bool = True
    train_word_embeddings: bool = False
    ablated_inputs: tuple[str, ...] | list[str] = ()

    def __post_init__(self, **kwargs):
        self.rgb_config = read_sub_config(ResNetConfig, self.rgb_config, {})
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise ValueError for invalid values."""
        super().check()
        self.expect_positive("vocab_size")
        self.expect_one_of(batch_norm_mode=BATCH_NORM_MODES, instruction_rnn_type=RNN_TYPES)
        self.expect("ablated_inputs", set(self.ablated_inputs) <= set(INPUTS), f"some of {INPUTS}")


class Seq2SeqConfig(RecurrentVLNConfig):
    """Seq2Seq: the fields of `RecurrentVLNConfig`, and one.

    Fields:
        use_previous_action: whether the previous action is an input of the state.
    """

    model_type = "internnav_seq2seq"

    use_previous_action: bool = False


class CMAConfig(RecurrentVLNConfig, ClipFollowerConfig):
    """CMA. Attention is half as wide as `hidden_size`.

    Fields, in addition to those of `RecurrentVLNConfig` and `ClipFollowerConfig`:
        use_clip: whether CLIP's towers encode words and views, and cross-modal encoders both; then
            `vocab_size` is that of `text_config`, and the fields of the LSTM, `rgb_config` and
            batch norm are unused. Set `image_mean` and `image_std`, and `image_size` to 224, for
            CLIP's own. If not, the fields of `ClipFollowerConfig` are unused.
    """

    model_type = "internnav_cma"
    sub_configs = RecurrentVLNConfig.sub_configs | ClipFollowerConfig.sub_configs

    use_clip: bool = False

    def __post_init__(self, **kwargs):
        if self.use_clip:
            self.read_towers()
            self.vocab_size = self.text_config.vocab_size
        else:
            for name in ("text_config", "vision_config"):
                self.expect(name, getattr(self, name) is None, "None without use_clip")
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise ValueError for invalid values and for sizes that do not fit each other."""
        super().check()
        self.expect("hidden_size", self.hidden_size % 2 == 0, "even")
        if self.use_clip:
            self.check_towers()
