"""Samples of the image-goal family: which there are, how goals are drawn, waypoints, images.

As published for GNM, ViNT and NoMaD. T frames, H horizon.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from internnav_hf.geometry import world_to_robot

ASPECT = (4, 3)  # width, height
BACKWARD_M = 1e-5


@dataclass(frozen=True)
class SampleRules:
    """Which frames make a sample, and what of it is learnt.

    `num_memory_frames` with the current one, and `action_horizon` waypoints, `stride` frames apart;
    `end_slack` frames before the last are not current ones. A goal is at most `longest_goal`
    strides ahead. Waypoints count if the goal is more than `nearest_action` and less than
    `farthest_action` strides ahead.
    """

    num_memory_frames: int = 6
    action_horizon: int = 5
    stride: int = 1
    end_slack: int = 3
    longest_goal: int = 20
    nearest_action: int = 2
    farthest_action: int = 10
    predicts_heading: bool = True

    def first(self) -> int:
        """The first current frame."""
        return (self.num_memory_frames - 1) * self.stride

    def counts(self, lengths: np.ndarray) -> np.ndarray:
        """(E,) numbers of current frames in episodes of `lengths` (E,)."""
        last = lengths - self.end_slack - self.action_horizon * self.stride
        return np.maximum(last - self.first(), 0)

    def farthest_goal(self, frame: int, length: int) -> int:
        """Strides from the current `frame` of an episode of `length` to its farthest goal."""
        return min(self.longest_goal * self.stride, length - frame - 1) // self.stride

    def action_counts(self, distance: int, is_negative: bool) -> bool:
        """Whether the waypoints of a sample are learnt."""
        return self.nearest_action < distance < self.farthest_action and not is_negative


def waypoints(poses: np.ndarray, frame: int, rules: SampleRules, spacing_m: float) -> np.ndarray:
    """(H, 2 or 4) labels at the current `frame` of `poses` (T, 3) x, y, yaw: x, y in spacings,
    then the cosine and sine of the heading. The last pose repeats if the episode ends early.
    """
    ahead = frame + rules.stride * np.arange(rules.action_horizon + 1)
    path = poses[np.minimum(ahead, len(poses) - 1)]
    xy = world_to_robot(path[1:, :2], path[0]) / (spacing_m * rules.stride)
    if not rules.predicts_heading:
        return xy
    turn = path[1:, 2] - path[0, 2]
    return np.column_stack([xy, np.cos(turn), np.sin(turn)])


def mean_spacing(poses: list[np.ndarray]) -> float:
    """Mean metres from one frame to the next of episodes of poses (T, 3)."""
    steps = [np.linalg.norm(np.diff(one[:, :2], axis=0), axis=1) for one in poses]
    return float(np.concatenate(steps).mean())


def sized(image: Image.Image, size: tuple[int, int], crop: bool) -> np.ndarray:
    """(3, rows, columns) uint8 of `size` (width, height), bicubic; with `crop` its centre of the
    aspect 4 to 3, and black where the image is narrower.
    """
    if crop:
        image = _centre(image)
    return np.array(image.resize(size, Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def _centre(image: Image.Image) -> Image.Image:
    width, height = image.size
    if width > height:
        wanted = int(height * ASPECT[0] / ASPECT[1]), height
    else:
        wanted = width, int(width * ASPECT[1] / ASPECT[0])
    # as torchvision rounds: down for what is added, to the even number for what is cut
    left, top = (
        round((have - want) / 2) if have >= want else -((want - have) // 2)
        for have, want in zip(image.size, wanted, strict=True)
    )
    return image.crop((left, top, left + wanted[0], top + wanted[1]))


def forward_stretches(poses: np.ndarray) -> list[range]:
    """Frames of `poses` (T, 3) in which a robot drives forward, as published recordings are cut.

    A frame is kept if the step from it, which the last two frames lack, goes 1e-5 m or more along
    its heading.
    """
    steps = np.diff(poses[:, :2], axis=0)[:-1]
    headings = np.column_stack([np.cos(poses[:-2, 2]), np.sin(poses[:-2, 2])])
    is_kept = (steps * headings).sum(axis=1) >= BACKWARD_M
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_kept, [0]]))).reshape(-1, 2)
    return [range(start, end) for start, end in edges.tolist()]
