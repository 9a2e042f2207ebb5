"""Configurations of the depth planners iPlanner and ViPlanner.

Apart from the model's file so that `import internnav_hf` can register them without importing
modelling code.
"""

from internnav_hf.models.common.config import NavConfig

HEIGHT_FRAMES = ("robot", "world")
_SIZES = ("hidden_sizes", "depths", "decoder_conv_sizes", "decoder_hidden_sizes")
_SEVERAL = (*_SIZES, "fear_hidden_sizes")


class PlannerConfig(NavConfig):
    """What both planners have; the defaults are iPlanner's.

    Fields:
        image_height, image_width: size in pixels of the depth (and semantic) image.
        max_depth_m: farther depth is unknown, 0.
        num_keypoints: points of the path between which the spline goes.
        num_goal_channels: width of the embedded goal.
        embedding_size, hidden_sizes, depths: widths and depths of the ResNet's stem and stages.
        normalise_shortcuts: whether the ResNet has batch norm in its shortcuts; it has none
            elsewhere.
        decoder_conv_sizes: widths of the decoder's convolutions.
        decoder_hidden_sizes: widths of its linear layers; the first is shared with the fear.
        fear_hidden_sizes: widths of the layers between that one and the fear.
        obstacle_loss_weight, height_loss_weight, motion_loss_weight, goal_loss_weight,
            fear_loss_weight: weights in the loss.
        robot_width_m: the map is also read half of it to the left and to the right; 0: only along
            the path.
        height_frame: what is compared with the ground's height: "robot", the path's in the robot's
            frame, or "world", that in the world above the robot's own.
        fear_distance_m: length of the path ahead whose obstacles are feared.
        fear_threshold: cost on the map from which it is one.
        traversable_cost: cost on the map of the ground that a robot is meant to use; subtracted
            from costs that are measured.
        guard_equal_keypoints: whether a piece of the path without length has no width instead of
            an undefined direction. Published False: it makes the loss of the whole batch NaN.
        camera: the robot's camera in training, as `CameraSpec.to_dict` gives it; a list of
            different ones, None if it is not known.

    Raises ValueError for an unknown field and for sizes that do not fit each other.
    """

    image_height: int = 360
    image_width: int = 640
    max_depth_m: float = 10.0
    num_keypoints: int = 5
    num_goal_channels: int = 16
    embedding_size: int = 64
    hidden_sizes: tuple[int, ...] | list[int] = (64, 128, 256, 512)
    depths: tuple[int, ...] | list[int] = (2, 2, 2, 2)
    normalise_shortcuts: bool = True
    decoder_conv_sizes: tuple[int, ...] | list[int] = (512, 256)
    decoder_hidden_sizes: tuple[int, ...] | list[int] = (1024, 512)
    fear_hidden_sizes: tuple[int, ...] | list[int] = (128,)
    obstacle_loss_weight: float = 0.5
    height_loss_weight: float = 1.0
    motion_loss_weight: float = 2.0
    goal_loss_weight: float = 5.0
    fear_loss_weight: float = 1.0
    robot_width_m: float = 0.0
    height_frame: str = "robot"
    fear_distance_m: float = 2.0
    fear_threshold: float = 0.5
    traversable_cost: float = 0.0
    guard_equal_keypoints: bool = True
    camera: dict | list[dict] | None = None

    def check(self) -> None:
        """See `NavConfig.check`."""
        self.expect_positive("num_keypoints", "num_goal_channels", "embedding_size")
        self.expect_one_of(height_frame=HEIGHT_FRAMES)
        self.expect("max_depth_m", self.max_depth_m > 0, "metres, more than 0")
        self.expect("robot_width_m", self.robot_width_m >= 0, "metres, at least 0")
        for name in _SEVERAL:
            sizes = getattr(self, name)
            is_known = bool(sizes) or name not in _SIZES
            self.expect(name, is_known and min(sizes, default=1) > 0, "sizes of 1 or more")
        pairs = len(self.depths) == len(self.hidden_sizes)
        self.expect("depths", pairs, f"as many as hidden_sizes, {len(self.hidden_sizes)}")
        for name, size in zip(("image_height", "image_width"), self.decoded_size, strict=True):
            self.expect(name, size > 0, f"more pixels for {len(self.decoder_conv_sizes)} layers")

    @property
    def decoded_size(self) -> tuple[int, int]:
        """Rows and columns of what the decoder's convolutions leave of an image."""
        size = [self.image_height, self.image_width]
        for _ in range(len(self.hidden_sizes) + 1):
            size = [(length + 1) // 2 for length in size]
        rows, columns = (length - 2 * len(self.decoder_conv_sizes) for length in size)
        return rows, columns


class iPlannerConfig(PlannerConfig):
    """iPlanner: a path to a point, from a depth image. The defaults are the published.

    See `PlannerConfig` for the fields.
    """

    model_type = "internnav_iplanner"


class ViPlannerConfig(PlannerConfig):
    """ViPlanner: a path to a point, from a depth and a semantic image. The defaults are published.

    Fields, besides those of `PlannerConfig`:
        use_semantics: whether it sees semantic images; published with and without.
        use_rgb: whether it sees colours instead. Published with a frozen ResNet-50 of a segmenter;
            here the encoder of semantic images learns from them.
    """

    model_type = "internnav_viplanner"

    max_depth_m: float = 15.0
    normalise_shortcuts: bool = False
    obstacle_loss_weight: float = 0.25
    motion_loss_weight: float = 1.5
    goal_loss_weight: float = 4.0
    robot_width_m: float = 0.6
    height_frame: str = "world"
    fear_distance_m: float = 2.5
    fear_threshold: float = 1.7
    traversable_cost: float = 0.5
    use_semantics: bool = True
    use_rgb: bool = False

    def check(self) -> None:
        """See `NavConfig.check`."""
        super().check()
        self.expect("use_rgb", not (self.use_rgb and self.use_semantics), "no use_semantics then")
