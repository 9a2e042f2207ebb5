"""Configuration of DD-PPO's point-goal agent.

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from internnav_hf.models.common.config import NavConfig

BLOCK_TYPES = ("basic", "bottleneck", "resnext")
ACTION_SPACES = ("discrete", "continuous")
_VIEWS = ("rgb", "depth")


class DDPPOConfig(NavConfig):
    """DD-PPO's agent. The defaults are those of the depth agents released in 2019.

    Fields:
        views: what it sees, "rgb" and "depth", in the order of the first layer's channels; empty
            for a blind agent.
        image_height, image_width: size in pixels of the views.
        min_depth_m, max_depth_m: depth is clipped to them, and scaled from them to 0..1.
        base_planes, num_blocks: width of the ResNet's stem, and blocks of each stage.
        block_type: "basic" (ResNet-18), "bottleneck" (ResNet-50) or "resnext".
        squeeze_excite: whether each block weighs its channels.
        embedding_size: width of the embedded goal, and of the embedded last action.
        hidden_size, num_recurrent_layers: sizes of the LSTM.
        action_space: "discrete", or "continuous" with a Gaussian whose mean is a tanh.
        num_actions: discrete actions, or numbers of a continuous one.
        min_log_std, max_log_std: bounds of the Gaussian's logarithmic deviation.
        forward_step_m, turn_angle_deg: what the actions 1, and 2 (left) and 3 (right), do.
        has_value_head: whether it estimates values; a release may lack the head.
        camera: the robot's camera in training, as `CameraSpec.to_dict` gives it; a list of
            different ones, None if it is not known.

    Raises ValueError for an unknown field and for sizes that do not fit each other.
    """

    model_type = "internnav_ddppo"
    keys_to_ignore_at_inference = ["hidden_states"]

    views: tuple[str, ...] | list[str] = ("depth",)
    image_height: int = 256
    image_width: int = 256
    min_depth_m: float = 0.0
    max_depth_m: float = 10.0
    base_planes: int = 32
    num_blocks: tuple[int, ...] | list[int] = (3, 4, 6, 3)
    block_type: str = "bottleneck"
    squeeze_excite: bool = False
    embedding_size: int = 32
    hidden_size: int = 512
    num_recurrent_layers: int = 2
    action_space: str = "discrete"
    num_actions: int = 4
    min_log_std: float = -5.0
    max_log_std: float = 2.0
    forward_step_m: float = 0.25
    turn_angle_deg: float = 10.0
    has_value_head: bool = True
    camera: dict | list[dict] | None = None

    def check(self) -> None:
        """See `NavConfig.check`."""
        sizes = ("base_planes", "embedding_size", "hidden_size", "num_recurrent_layers")
        self.expect_positive(*sizes, "num_actions", "image_height", "image_width")
        self.expect_one_of(block_type=BLOCK_TYPES, action_space=ACTION_SPACES)
        known = set(self.views) <= set(_VIEWS) and len(set(self.views)) == len(self.views)
        self.expect("views", known, f"some of {_VIEWS}, each once")
        blocks = bool(self.num_blocks) and min(self.num_blocks) >= 1
        self.expect("num_blocks", blocks, "1 or more for each stage")
        self.expect("base_planes", self.base_planes % 2 == 0, "an even number")
        self.expect("min_depth_m", self.min_depth_m >= 0, "metres, at least 0")
        deeper = self.max_depth_m > self.min_depth_m
        self.expect("max_depth_m", deeper, f"metres, more than min_depth_m={self.min_depth_m}")
        self.expect("max_log_std", self.max_log_std > self.min_log_std, "more than min_log_std")
        self.expect("forward_step_m", self.forward_step_m > 0, "metres, more than 0")
        self.expect("turn_angle_deg", 0 < self.turn_angle_deg <= 180, "degrees, up to 180")
        for name, size in zip(("image_height", "image_width"), self.grid_size, strict=True):
            self.expect(name, size > 0 or not self.views, "at least 2 pixels")

    @property
    def num_channels(self) -> int:
        """Channels of the views together."""
        return sum(3 if view == "rgb" else 1 for view in self.views)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of the visual features."""
        size = [self.image_height // 2, self.image_width // 2]
        for _ in range(len(self.num_blocks) + 1):
            size = [(length + 1) // 2 for length in size]
        return size[0], size[1]

    @property
    def is_discrete(self) -> bool:
        """Whether actions are numbers of a list."""
        return self.action_space == "discrete"
