"""Common base of the configurations of Seq2Seq and CMA."""

import copy

from transformers import PreTrainedConfig, ResNetConfig

from internnav_hf.models.common.config import OwnFieldsWin, check_positive, refuse_unknown

BATCH_NORM_MODES = ("running", "training", "always")
RNN_TYPES = ("lstm", "gru")
INPUTS = ("instruction", "rgb", "depth")


class RecurrentVLNConfig(OwnFieldsWin, PreTrainedConfig):
    """Sizes of encoders, state and heads. The defaults are the published ones.

    Fields:
        vocab_size, embedding_size: sizes of the table of words; id 0 is padding.
        instruction_hidden_size: width of the instruction's LSTM, in one direction.
        instruction_rnn_type: "lstm", or "gru".
        image_size, depth_size: height and width in pixels of colour and depth frames.
        image_mean, image_std: normalisation of colours, after scaling to [0, 1]; None, as
            published, for none.
        max_depth: metres; depth is clipped to it and divided by it.
        rgb_config: the colour ResNet, as `ResNetConfig` or a dict; ResNet-50 if not given.
        batch_norm_mode: of that ResNet, "running", "training" or "always", see `rgb_resnet`.
        depth_base_planes, depth_num_blocks, depth_feature_channels: sizes of the depth ResNet.
        rgb_hidden_size, depth_hidden_size: widths of the projected colour and depth features.
        action_embedding_size: width of the embedded previous action.
        hidden_size: width of the recurrent state.
        has_progress_monitor: whether the model predicts which share of the path it has covered.
        progress_loss_weight: weight of that prediction in the loss.
        train_rgb_encoder, train_depth_encoder, train_word_embeddings: whether they are trained.
        ablated_inputs: those of "instruction", "rgb" and "depth" that are replaced by zeros.

    Raises ValueError for an unknown field and for invalid values.
    """

    sub_configs = {"rgb_config": ResNetConfig}  # pyright: ignore[reportAssignmentType]

    keys_to_ignore_at_inference = ["recurrent_state"]

    vocab_size: int = 2504
    embedding_size: int = 50
    instruction_hidden_size: int = 128
    instruction_rnn_type: str = "lstm"
    image_size: int = 256
    depth_size: int = 256
    image_mean: tuple[float, ...] | list[float] | None = None
    image_std: tuple[float, ...] | list[float] | None = None
    max_depth: float = 10.0
    rgb_config: dict | PreTrainedConfig | None = None
    batch_norm_mode: str = "running"
    depth_base_planes: int = 32
    depth_num_blocks: tuple[int, ...] | list[int] = (3, 4, 6, 3)
    depth_feature_channels: int = 128
    rgb_hidden_size: int = 256
    depth_hidden_size: int = 128
    action_embedding_size: int = 32
    hidden_size: int = 512
    has_progress_monitor: bool = True
    progress_loss_weight: float = 1.0
    train_rgb_encoder: bool = False
    train_depth_encoder: bool = False
    train_word_embeddings: bool = False
    ablated_inputs: tuple[str, ...] | list[str] = ()

    def __post_init__(self, **kwargs):
        refuse_unknown(type(self), kwargs)
        self.depth_num_blocks = tuple(self.depth_num_blocks)
        self.ablated_inputs = tuple(self.ablated_inputs)
        # A copy: the base class writes its attention implementation into sub-configurations.
        given = copy.deepcopy(self.rgb_config)
        is_config = isinstance(given, PreTrainedConfig)
        self.rgb_config = given if is_config else ResNetConfig(**(given or {}))
        super().__post_init__(**kwargs)
        self._check()

    def _check(self) -> None:
        for name in ("vocab_size", "image_size", "depth_size", "hidden_size", "depth_base_planes"):
            check_positive(self, name)
        allowed = {"batch_norm_mode": BATCH_NORM_MODES, "instruction_rnn_type": RNN_TYPES}
        for name, choices in allowed.items():
            self._expect(name, getattr(self, name) in choices, f"one of {choices}")
        self._expect("ablated_inputs", set(self.ablated_inputs) <= set(INPUTS), f"some of {INPUTS}")
        self._expect("depth_base_planes", self.depth_base_planes % 2 == 0, "an even number")
        self._expect("max_depth", self.max_depth > 0, "metres, more than 0")
        both = (self.image_mean is None) == (self.image_std is None)
        self._expect("image_std", both, "as image_mean: three numbers each, or neither")

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            found = getattr(self, name)
            raise ValueError(
                f"{type(self).__name__}: {name}: found {found!r}, expected {expected}."
            )
