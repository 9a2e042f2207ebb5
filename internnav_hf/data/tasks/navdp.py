"""NavDP's samples: past and current views, a goal, and the path there.

A sample is drawn from an episode with poses and depth: a current frame, a goal frame ahead, the
colour frames before the current one as memory. The goal comes as a point, as the view from there,
and as a pixel; the way is the recorded one, beside it one turned aside, each with what it is worth
(see `navdp_targets` and `obstacles`).

Differs from the published loader: a sample depends on seed, epoch and index alone; images that
cannot be read are an error and not black; only the frames that a sample shows are decoded, each
once; the point cloud is not read (`obstacles`); names are not sorted as text (`vln_n1`); the list
of episodes is not copied `samples_per_episode` times. What goes into the network by another path at
inference is the same here, see `NavDPDataset`.

B batch, M memory frames, S image size, H horizon.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from internnav_hf.camera import CameraSpec
from internnav_hf.data.formats.vln_n1.index import ReadingRules
from internnav_hf.data.formats.vln_n1.reader import DEPTH_SCALE, SHORTEST_EPISODE
from internnav_hf.data.index import DEFAULT_CACHE, EpisodeTable
from internnav_hf.data.obstacles import (
    COLLISION_M,
    ObstacleField,
    kept_field,
    open_field,
    path_value,
)
from internnav_hf.data.rows import EpisodeRow, camera_of
from internnav_hf.data.seen_obstacles import seen_obstacles
from internnav_hf.data.tasks.common import NAVDP, EpisodeDataset, check_option
from internnav_hf.data.tasks.navdp_targets import (
    Draw,
    draw_item,
    goal_pixel,
    label_rows,
    local_path,
    recorded_points,
    steps_between,
    trajectory,
    turned,
)
from internnav_hf.models.navdp.letterbox import (
    GOAL_MARK_PX,
    goal_mask,
    letterbox,
    letterbox_depth,
    marked_rectangle,
)
from internnav_hf.trajectory import path_of

SLOT_KINDS = ("point", "image", "pixel")  # their numbers in `goal_slots`
NUM_SLOTS = 3
TRIES_FOR_BLOCKED = 9
PIXEL_GOAL_FRAMES = ("current", "start")
INVISIBLE_PIXELS = ("edge", "none")


@dataclass(eq=False, repr=False)
class NavDPDataset(EpisodeDataset):
    """Samples of all four tasks as a map-style dataset.

    `data_root` holds a folder per group, each with a folder per scene; `groups` limits them (a
    comma separated string or a list). It may also be one of `vln_ce`, with depth, whose groups are
    datasets (`r2r`, or with their camera `r2r_125cm_0_30`, whose look-down view is shown), of
    `vln_pe`, or of a registered format. Those have no point cloud: obstacles are what their depth
    images show. Robots that turn on the spot, a step an action, want `action_stride=1`. `camera` is
    that of data that record none. Index i belongs to episode i modulo the number of episodes, and
    is the same sample on every process; in training `set_epoch` draws others, otherwise every epoch
    has the same.

    An item has one row of each key of `NavDPCollator`'s batch.

    Published behaviour that trained released weights, and what is done here instead:

    * The pixel goal is marked in an earlier frame (`start` of the draw), also where the network
      sees no other frame for it, though at inference it is marked in the current one. Here the
      current frame with 4 channels, the earlier one with 7. `pixel_goal_frame="start"`: always
      the earlier.
    * A goal outside the view leaves the mask empty; at inference it is a band along the edge, as is
      one close to the edge. Here bands, too. `invisible_pixel="none"`: none.
    * The goal's pixel is that of a point a fifth of the camera's height above the floor. Here of
      the floor, as System2's. `pixel_goal_height=0.2`: as published.
    * What kinds of goal are mixed goes by the row of a batch. Here it is drawn, with the same
      shares: `goal_slots`. `slot_kinds=None` leaves that to the model's rule.
    * Actions are multiplied by four, the angle like the metres. Here they are not; the model's
      `action_scale` does it.
    * `frame_order="lexicographic"`: see `vln_n1`.

    `single_goal_fraction` of the samples mix nothing: all their slots have one kind, as at
    inference. Published 0, which gives it a ninth of them. `goal_at_end_fraction` of them have
    their goal at the end of the episode: published 0, which suits long episodes.
    `blocked_goal_fraction` are drawn anew, up to nine times, while the straight line to the goal is
    free: published 0. A place nearer than `collision_distance` metres (|dx| + |dy|) to an obstacle
    is a collision, for that and for the critic: published 0.1, less than a robot's radius.
    """

    data_root: str | Path
    seed: int = 0
    image_size: int = 224
    num_memory_frames: int = 8
    memory_stride: int = 4
    action_horizon: int = 24
    action_stride: int = 4
    groups: str | Iterable[str] | None = None
    samples_per_episode: int = 50
    training: bool = True
    num_pixel_goal_channels: int = 4
    pixel_goal_frame: str | None = None
    pixel_goal_height: float = 0.0
    invisible_pixel: str = "edge"
    slot_kinds: Sequence[str] | None = SLOT_KINDS
    single_goal_fraction: float = 0.0
    goal_at_end_fraction: float = 0.0
    blocked_goal_fraction: float = 0.0
    collision_distance: float = COLLISION_M
    frame_order: str = "numeric"
    depth_scale: float = DEPTH_SCALE
    max_broken_fraction: float = 0.01
    cache_dir: str | Path | None = None
    camera: CameraSpec | None = None

    def __post_init__(self):
        self.data_root = Path(self.data_root)
        self.data_roots = [self.data_root]
        sees_other_view = self.num_pixel_goal_channels == 7
        self.pixel_goal_frame = self.pixel_goal_frame or PIXEL_GOAL_FRAMES[sees_other_view]
        self.slot_kinds = None if self.slot_kinds is None else tuple(self.slot_kinds)
        self._check_options()
        self._cache = Path(self.cache_dir or DEFAULT_CACHE)
        rules = ReadingRules(None, self.frame_order, self.depth_scale)
        place = (self.data_root, self.groups, self._cache)
        tables = NAVDP.below(*place, self.max_broken_fraction, self.camera, vln_n1=rules)
        self.episodes = long_episodes(tables, str(self.data_root))
        self.num_broken_episodes = sum(len(table.broken_episodes) for table in tables)
        self._built_from = [table.folder.name for table in tables]
        self._built_from += [] if self.camera is None else [str(self.camera)]
        self.camera = next(iter(self.cameras), None)

    def _check_options(self) -> None:
        counts = ("image_size", "num_memory_frames", "memory_stride", "action_horizon")
        for key in (*counts, "action_stride", "samples_per_episode"):
            check_option(key, getattr(self, key), getattr(self, key) >= 1, "at least 1")
        for key, known in (
            ("num_pixel_goal_channels", (4, 7)),
            ("pixel_goal_frame", PIXEL_GOAL_FRAMES),
            ("invisible_pixel", INVISIBLE_PIXELS),
        ):
            check_option(key, getattr(self, key), getattr(self, key) in known, f"one of {known}")
        kinds = self.slot_kinds
        known = kinds is None or (kinds and set(kinds) <= set(SLOT_KINDS))
        check_option("slot_kinds", kinds, known, f"some of {SLOT_KINDS}")
        for key in ("single_goal_fraction", "goal_at_end_fraction", "blocked_goal_fraction"):
            share = getattr(self, key)
            check_option(key, share, 0 <= share <= 1, "a share, 0 to 1")
        distance = self.collision_distance
        check_option("collision_distance", distance, distance > 0, "more than 0")

    def __len__(self) -> int:
        return self.episodes.num_rows * self.samples_per_episode

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        episode, draw, rng = self._drawn(index)
        item = self.item(episode, draw)
        if self.slot_kinds is not None:
            item["goal_slots"] = self._slots(rng)
        return item

    def item(self, episode: int, draw: Draw) -> dict[str, Tensor]:
        """Return the sample of one row of `episodes` and one draw."""
        walk = self._episode(episode)
        way = self._way(walk, draw)
        views = self._views(walk, draw)
        frames = self._memory(draw)
        none = torch.zeros_like(views[draw.current])
        current, marked = views[draw.current], views[self._marked(draw)]
        pixel_map = [marked, self._mask(walk, draw)[None]]
        return {
            "rgb": torch.stack([none if frame is None else views[frame] for frame in frames]),
            "depth": letterbox_depth(self._depth(walk, draw), self.image_size),
            "goal_point": _float(way.points[-1]),
            "goal_image": torch.cat([views[draw.goal], current]),
            "goal_pixel_map": torch.cat(
                pixel_map + [current] * (self.num_pixel_goal_channels == 7)
            ),
            "actions": _float(way.actions),
            "perturbed_actions": _float(way.perturbed_actions),
            "value": _float(way.values[0]),
            "perturbed_value": _float(way.values[1]),
        }

    def decision(self, index: int) -> dict[str, Any]:
        """Return the input of a policy at the current frame of sample `index`, and the path taken.

        `path` and `perturbed_path` (H + 1, 2) and `goal_point` (3,) in the robot's frame;
        `robot_pose` (x, y, yaw) in the world; `scene` and `scene_folder`; `camera`; `rgb` (rows,
        columns, 3) uint8, `goal_view` the same and `depth` (rows, columns) metres as recorded;
        `goal_pixel` (u, v) in `rgb`, possibly outside of it; `values` (2,) of both paths;
        `episode` (row of `episodes`), `draw`, and `memory`, the frames that are remembered (None
        where there was none).
        """
        episode, draw, _ = self._drawn(index)
        walk = self._episode(episode)
        way = self._way(walk, draw)
        return {
            "path": path_of(way.actions),
            "perturbed_path": path_of(way.perturbed_actions),
            "goal_point": way.points[-1],
            "values": way.values,
            "robot_pose": tuple(walk.poses[draw.current].tolist()),
            "scene": Path(walk["unit"]).parts[:2][-1],
            "scene_folder": walk.folder,
            "camera": camera_of(walk),
            "rgb": np.asarray(walk.image(draw.current)),
            "goal_view": np.asarray(walk.image(draw.goal)),
            "depth": self._depth(walk, draw),
            "goal_pixel": goal_pixel(way.points[-1][:2], walk.view, self.pixel_goal_height),
            "episode": episode,
            "draw": draw,
            "memory": self._memory(draw),
        }

    def obstacles(self, index: int) -> ObstacleField:
        """Obstacles of the scene of sample `index`."""
        return self._obstacles(self._episode(self._position(index) % self.episodes.num_rows))

    def _obstacles(self, walk: EpisodeRow) -> ObstacleField:
        """Obstacles of the scene's point cloud; without one, of all its depth images."""
        if walk.has("cloud"):
            return open_field(walk.folder / walk["cloud"], self._cache / walk["field"])
        digest = hashlib.blake2b(str([*self._built_from, walk["unit"]]).encode(), digest_size=8)

        def find() -> np.ndarray:
            units = self.episodes["unit"].to_numpy(zero_copy_only=False)
            same = np.flatnonzero(units == walk["unit"]).tolist()
            return seen_obstacles(map(self._episode, same))

        return kept_field(self._cache / f"obstacles-seen-{digest.hexdigest()}", find)

    def _drawn(self, index: int) -> tuple[int, Draw, np.random.Generator]:
        position = self._position(index)
        episode = position % self.episodes.num_rows
        epoch = [1, self.epoch] if self.training else [0]
        rng = np.random.default_rng([self.seed, *epoch, position])
        length = self.episodes["length"][episode].as_py()
        goal_at_end = rng.random() < self.goal_at_end_fraction
        draw = draw_item(length, rng, goal_at_end)
        if self.blocked_goal_fraction and rng.random() < self.blocked_goal_fraction:
            walk = self._episode(episode)
            is_blocked = partial(self._is_blocked, walk.poses, self._obstacles(walk))
            tries = (draw_item(length, rng, goal_at_end) for _ in range(TRIES_FOR_BLOCKED))
            draw = next(filter(is_blocked, chain([draw], tries)), draw)
        return episode, draw, rng

    def _is_blocked(self, poses: np.ndarray, obstacles: ObstacleField, draw: Draw) -> bool:
        """Whether no straight line leads a robot to the goal."""
        here, goal = poses[draw.current, :2], poses[draw.goal, :2]
        return obstacles.blocks(here, goal, self.collision_distance)

    def where(self, index: int) -> str:
        """Origin of a sample, for messages."""
        episode, draw, _ = self._drawn(index)
        return f"{self._episode(episode)}, frame {draw.current}"

    def _slots(self, rng: np.random.Generator) -> Tensor:
        """Draw (3,) kinds of goal to mix."""
        kinds = np.array([SLOT_KINDS.index(kind) for kind in self.slot_kinds or ()])
        slots = rng.choice(kinds, size=NUM_SLOTS)
        single = rng.random() < self.single_goal_fraction
        return torch.from_numpy(slots[[0, 0, 0]] if single else slots)

    def _memory(self, draw: Draw) -> list[int | None]:
        """Return (M,) frames, the current one last; None before the first."""
        ago = self.memory_stride * np.arange(self.num_memory_frames)[::-1]
        return [frame if frame >= 0 else None for frame in (draw.current - ago).tolist()]

    def _marked(self, draw: Draw) -> int:
        return draw.start if self.pixel_goal_frame == "start" else draw.current

    def _views(self, walk: EpisodeRow, draw: Draw) -> dict[int, Tensor]:
        """Return every frame of the sample, (3, S, S) uint8, decoded once."""
        shown = {*self._memory(draw), draw.goal, self._marked(draw)} - {None}
        frames = sorted(frame for frame in shown if frame is not None)
        images = np.stack([np.asarray(walk.image(frame)) for frame in frames])
        return dict(zip(frames, letterbox(images, self.image_size), strict=True))

    def _depth(self, walk: EpisodeRow, draw: Draw) -> np.ndarray:
        """(rows, columns) float64 metres; float32 would drop some pixels at exactly 5 m."""
        return walk.depth(draw.current, np.float64)

    def _mask(self, walk: EpisodeRow, draw: Draw) -> Tensor:
        """Return the (S, S) uint8 mask of the goal in the view in which it was marked."""
        path = local_path(walk.poses[self._marked(draw) : draw.goal + 1])
        u, v = goal_pixel(trajectory(path)[-1][:2], walk.view, self.pixel_goal_height)
        width, height = walk.size
        margin_px = GOAL_MARK_PX if self.invisible_pixel == "edge" else -np.inf
        fits = margin_px <= min(u, v, width - int(u), height - int(v))
        if not fits:
            return goal_mask((u, v), (height, width), self.image_size)
        return marked_rectangle((u, v), (height, width), self.image_size, draw.mark)

    def _way(self, walk: EpisodeRow, draw: Draw) -> "_Way":
        poses = walk.poses[draw.current : draw.goal + 1]
        turns_on_the_spot = walk.has("actions")
        points = recorded_points(poses) if turns_on_the_spot else trajectory(local_path(poses))
        rows = label_rows(len(poses), self.action_horizon, self.action_stride)
        perturbed = np.column_stack([turned(points[:, :2], draw.rotation), points[:, 2]])
        here = poses[0, :2]
        xy = poses[rows, :2]
        both = np.stack([xy, here + turned(xy - here, draw.rotation)])
        return _Way(
            points,
            steps_between(points[rows]),
            steps_between(perturbed[rows]),
            path_value(both, self._obstacles(walk), self.collision_distance),
        )


def long_episodes(tables: Sequence[EpisodeTable], title: str) -> pa.Table:
    """Return episodes long enough to draw from."""
    episodes = pa.concat_tables([table.episodes for table in tables])
    is_long = pc.greater_equal(episodes["length"], SHORTEST_EPISODE)
    if not pc.any(is_long).as_py():
        raise ValueError(f"{title}: found no episode of {SHORTEST_EPISODE} frames, expected some")
    return episodes if pc.all(is_long).as_py() else episodes.filter(is_long)


@dataclass(frozen=True, eq=False)
class _Way:
    """`points` (N - 1, 3) to the goal, the actions (H, 3) along them and along the perturbed path,
    and both values (2,).
    """

    points: np.ndarray
    actions: np.ndarray
    perturbed_actions: np.ndarray
    values: np.ndarray


def _float(values: np.ndarray) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
