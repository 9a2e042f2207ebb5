"""Samples for cloning: what a robot saw on a walk to a point, and what the expert did.

    episode (poses, depth, actions if it has any) -> steps -> views, goal in the robot's frame,
    last action, action

The goal is where the walk ends. Walks of discrete actions (`vln_pe`, `vln_ce`) are taken as they
are; where others than the expert's actions were done (exploration, DAgger), the expert's are what
is learnt, and those that were done are what was remembered. Of other walks, actions follow from the
poses; see `ddppo_targets`.

K steps of a sample, h and w rows and columns of the model's images.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from internnav_hf.camera import CameraSpec
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.rows import EpisodeRow
from internnav_hf.data.tasks.common import DDPPO, EpisodeDataset, check_option
from internnav_hf.data.tasks.ddppo_targets import (
    Steps,
    StepSizes,
    agreement,
    discrete_steps,
    led_by,
    smooth_steps,
    step_sizes,
)
from internnav_hf.data.tasks.vln_collator import padded
from internnav_hf.data.tasks.vln_targets import INFLECTION_COEFFICIENT, inflection_weights
from internnav_hf.geometry import Action
from internnav_hf.models.ddppo.views import scaled_depth, sized_rgb

ARRIVAL_M = 0.2  # where stopping succeeds, as published
LEAST_AGREEMENT = 0.9


class Settings(Protocol):
    """Protocol of the part of `DDPPOConfig` that the dataset uses."""

    views: Sequence[str]
    image_height: int
    image_width: int
    min_depth_m: float
    max_depth_m: float
    action_space: str
    forward_step_m: float
    turn_angle_deg: float


@dataclass(eq=False, repr=False)
class DDPPODataset(EpisodeDataset):
    """Whole walks as a map-style dataset; `groups` are some of those below `data_root`.

    `config` is the model's: views, their size, range of depth and, for walks without actions, the
    sizes of a step. `sizes` are the data's own, the configuration's where there are no actions, and
    `agreement` is the share of their clear motions that the actions explain, nan without any.
    `lengths` (one per sample) are for batches of walks that are about equally long. `max_steps`:
    longer walks are cut. `arrival_m`: so near to the goal the action is to stop, and a walk ends.
    `inflection_coefficient`: weight of an action that differs from the one before.

    Raises ValueError for continuous actions, for unknown ones, and for walks whose actions
    contradict their poses.
    """

    data_root: str | Path
    config: Settings
    groups: str | Iterable[str] | None = None
    max_steps: int = 500
    arrival_m: float = ARRIVAL_M
    inflection_coefficient: float = INFLECTION_COEFFICIENT
    max_broken_fraction: float = 0.01
    cache_dir: str | Path | None = None
    camera: CameraSpec | None = None

    def __post_init__(self):
        check_option("max_steps", self.max_steps, self.max_steps >= 1, "at least 1")
        check_option("arrival_m", self.arrival_m, self.arrival_m >= 0, "metres, at least 0")
        kind = self.config.action_space
        check_option("action_space", kind, kind == "discrete", "discrete: numbers are learnt")
        self.data_roots = [Path(self.data_root)]
        options = (self.cache_dir, self.max_broken_fraction, self.camera)
        tables = DDPPO.below(self.data_roots[0], self.groups, *options)
        parts = [table.episodes for table in tables]
        self.episodes = pa.concat_tables(parts, promote_options="default")
        self.num_broken_episodes = sum(len(table.broken_episodes) for table in tables)
        rows = [self._episode(row) for row in range(self.episodes.num_rows)]
        if "rgb" in self.config.views and not all(row.has("rgb_file") for row in rows):
            raise broken(self.data_root, "rgb_file", "none", "colours, which the model sees")
        driven = [row for row in rows if row.has("actions")]
        walks = [(row.poses, _led(row)) for row in driven]
        self.agreement = agreement(walks) if walks else float("nan")
        if self.agreement < LEAST_AGREEMENT:
            found = f"{self.agreement:.0%} of the motions as they say"
            raise broken(self.data_root, "actions", found, f"{LEAST_AGREEMENT:.0%} or more")
        default = StepSizes(self.config.forward_step_m, self.config.turn_angle_deg)
        measured = step_sizes(walks) if walks else default
        pairs = zip(measured, default, strict=True)
        self.sizes = StepSizes(*(b if np.isnan(a) else a for a, b in pairs))
        self._steps = [self._cut(row) for row in rows]

    @property
    def lengths(self) -> np.ndarray:
        """(samples,) number of steps of each."""
        return np.array([len(steps.frames) for steps in self._steps])

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        position = self._position(index)
        episode, steps = self._episode(position), self._steps[position]
        weights = inflection_weights(steps.actions, self.inflection_coefficient)
        masks = torch.ones(len(steps.frames), dtype=torch.bool)
        masks[0] = False
        return {
            "pointgoal": torch.from_numpy(steps.pointgoals.astype(np.float32)),
            **self._views(episode, steps.frames),
            "previous_actions": torch.from_numpy(steps.previous_actions),
            "masks": masks,
            "actions": torch.from_numpy(steps.actions),
            "inflection_weights": torch.from_numpy(weights),
        }

    def where(self, index: int) -> str:
        """Origin of a sample, for messages."""
        return str(self._episode(self._position(index)))

    def _cut(self, row: EpisodeRow) -> Steps:
        poses = row.poses
        if not row.has("actions"):
            steps = smooth_steps(poses, self.sizes, self.arrival_m)
        else:
            actions = row.array("actions").astype(np.int64)
            if not np.isin(actions, (*Action,)[:4]).all():
                expected = "0 stop, 1 forward, 2 left, 3 right"
                raise broken(str(row), "actions", sorted({*actions.tolist()}), expected)
            steps = discrete_steps(poses, actions, _led(row), self.arrival_m)
        return Steps(*(values[: self.max_steps] for values in steps))

    def _views(self, episode: EpisodeRow, frames: np.ndarray) -> dict[str, Tensor]:
        """`depth` (K, h, w, 1) in 0..1 and `rgb` (K, h, w, 3) uint8, as far as they are seen."""
        stop, found = int(frames[-1]) + 1, {}
        if "depth" in self.config.views:
            is_whole = len(frames) == stop
            seen = [] if is_whole else [episode.depth(int(frame)) for frame in frames]
            depth = episode.depths(stop) if is_whole else np.stack(seen)
            found["depth"] = scaled_depth(depth, self.config)
        if "rgb" in self.config.views:
            pictures = [np.asarray(episode.image(int(frame))) for frame in frames]
            found["rgb"] = torch.stack([sized_rgb(one, self.config) for one in pictures])
        return found


class DDPPOCollator:
    """Samples to one batch.

    Two walks of 3 and 4 steps, at 256x256 pixels:

        pointgoal           (2, 4, 2)            float32  metres, radians to the left
        depth               (2, 4, 256, 256, 1)  float32  0..1 of the range of depth
        previous_actions    (2, 4)               int64    [[-1, 1, 1, -1], [-1, 2, 1, 1]] -1 none
        masks               (2, 4)               bool     [[0, 1, 1, 0], [0, 1, 1, 1]] 0 at a start
        actions             (2, 4)               int64    [[1, 1, 0, 0], [2, 1, 1, 0]]
        inflection_weights  (2, 4)               float32  [[3.2, 1, 3.2, 0], [3.2, 3.2, 1, 3.2]]
        step_mask           (2, 4)               bool     [[1, 1, 1, 0], [1, 1, 1, 1]]
        episode_mask        (2,)                 bool     [1, 1] the loss is a mean over walks

    A model of colours also gets `rgb` (2, 4, 256, 256, 3) uint8.
    """

    def __call__(self, samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The keys are the arguments of the model's `forward`."""
        batch = {k: padded(k, [one[k].numpy() for one in samples]) for k in samples[0]}
        lengths = torch.tensor([len(one["actions"]) for one in samples])
        step_mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return batch | {"step_mask": step_mask, "episode_mask": lengths > 0}


def _led(row: EpisodeRow) -> np.ndarray:
    """(T,) what led to each frame."""
    if row.has("previous_actions"):
        return row.array("previous_actions").astype(np.int64)
    return led_by(row.array("actions").astype(np.int64))
