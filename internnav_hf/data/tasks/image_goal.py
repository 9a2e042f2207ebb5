"""Samples of GNM, ViNT and NoMaD: past and current views, the view at a goal, and the path there.

A sample is a current frame of an episode with poses. Its goal is a later frame, up to
`rules.longest_goal` strides ahead; if that is none, the goal is a frame of any episode, which
counts as `longest_goal` strides away. Waypoints are those of the recorded path, whatever the goal.

Differs from the published loader: a sample depends on seed, epoch and index alone; images that
cannot be read are an error; the index is made of episodes, and kept beside what it is made from;
which goals are hidden is drawn with the sample. The published index omits horizon and spacing from
its name, and is silently used again after they change.

B batch, M memory frames, H horizon.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from internnav_hf.camera import CameraSpec
from internnav_hf.data.formats.trajectories import read_names
from internnav_hf.data.index import DEFAULT_CACHE
from internnav_hf.data.tasks.common import IMAGE_GOAL, EpisodeDataset, check_option
from internnav_hf.data.tasks.image_goal_targets import SampleRules, mean_spacing, sized, waypoints


@dataclass(frozen=True)
class ImageGoalDraw:
    """Frames of a sample: the current one, and the goal in row `goal_episode` of the episodes;
    `distance` in strides.
    """

    episode: int
    frame: int
    goal_episode: int
    goal_frame: int
    distance: int
    is_negative: bool


@dataclass(eq=False, repr=False)
class ImageGoalDataset(EpisodeDataset):
    """Samples of one data set as a map-style dataset; `ImageGoalDatasets` joins several.

    `data_root` holds trajectories in the published layout, or a data set with poses of any other
    format. `groups` limits it to some of its groups, scans or trajectories, a comma separated
    string or a list; `split`, in the published layout, to those in a file of names or in a folder
    with `traj_names.txt`.

    `image_size` is (width, height); images are cropped to 4 to 3 first, unless `crop` is False.
    `waypoint_spacing_m` is measured by default: the mean metres between two frames.
    `goal_drop_share` is the share of samples whose goal is hidden, None for models that do not know
    that. `mirrored_share` is the share of samples that are seen in a mirror, left and right
    exchanged; for cameras that look straight ahead. `keep_images` keeps every prepared image that
    was read in memory, of each process that reads: a recorded image is in many samples.

    Index i is the same sample on every process; in training `set_epoch` draws other goals,
    otherwise every epoch has the same.

    An item has one row of each key of `ImageGoalCollator`'s batch.
    """

    data_root: str | Path
    rules: SampleRules = field(default_factory=SampleRules)
    image_size: tuple[int, int] = (85, 64)
    crop: bool = True
    goal_drop_share: float | None = None
    mirrored_share: float = 0.0
    keep_images: bool = False
    waypoint_spacing_m: float | None = None
    groups: str | Iterable[str] | None = None
    split: str | Path | None = None
    seed: int = 0
    training: bool = True
    max_broken_fraction: float = 0.01
    cache_dir: str | Path | None = None

    def __post_init__(self):
        self.data_root = Path(self.data_root)
        self.data_roots = (self.data_root,)
        self._kept: dict[tuple[int, int], np.ndarray] = {}
        self._check_options()
        if self.groups and self.split is not None:
            found = f"groups {self.groups} and the split {self.split}"
            raise ValueError(f"{self.data_root}: found {found}, expected one of the two")
        groups = self.groups if self.split is None else read_names(Path(self.split))
        place = (self.data_root, groups, Path(self.cache_dir or DEFAULT_CACHE))
        tables = IMAGE_GOAL.below(*place, self.max_broken_fraction)
        self.num_broken_episodes = sum(len(table.broken_episodes) for table in tables)
        self.episodes = pa.concat_tables(table.episodes for table in tables)
        self._lengths = self.episodes["length"].to_numpy()
        self._ends = np.cumsum(self.rules.counts(self._lengths))
        self._frame_ends = np.cumsum(self._lengths)
        self._check_lengths()
        self.waypoint_spacing_m = self._spacing(self.waypoint_spacing_m)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draw, rng = self._drawn(index)
        item = self.item(draw)
        if self.goal_drop_share is not None:
            item["goal_mask"] = torch.tensor(rng.random() >= self.goal_drop_share)
        if self.mirrored_share and rng.random() < self.mirrored_share:
            item |= mirrored(item)
        return item

    def item(self, draw: ImageGoalDraw) -> dict[str, Tensor]:
        """Return the sample of a draw."""
        rules, episode = self.rules, self._episode(draw.episode)
        frames = draw.frame - rules.stride * np.arange(rules.num_memory_frames)[::-1]
        seen = {frame: self._image(draw.episode, frame) for frame in frames.tolist()}
        goal = seen.get(draw.goal_frame) if draw.goal_episode == draw.episode else None
        if goal is None:
            goal = self._image(draw.goal_episode, draw.goal_frame)
        actions = waypoints(episode.poses, draw.frame, rules, self.waypoint_spacing_m)
        counts = rules.action_counts(draw.distance, draw.is_negative)
        return {
            "rgb": torch.from_numpy(np.stack([seen[frame] for frame in frames.tolist()])),
            "goal_image": torch.from_numpy(goal),
            "actions": torch.as_tensor(actions, dtype=torch.float32),
            "distance": torch.tensor(float(draw.distance)),
            "action_mask": torch.tensor(counts),
        }

    def draw(self, index: int) -> ImageGoalDraw:
        """Return the frames of sample `index` in this epoch."""
        return self._drawn(index)[0]

    def spacing_of(self, index: int) -> float:
        """Metres of the unit of waypoints of sample `index`."""
        return self.waypoint_spacing_m * self.rules.stride

    def where(self, index: int) -> str:
        """Origin of a sample, for messages."""
        draw = self.draw(index)
        episode = self._episode(draw.episode)
        return f"{episode.folder}, episode {episode['episode_index']}, frame {draw.frame}"

    def _drawn(self, index: int) -> tuple[ImageGoalDraw, np.random.Generator]:
        position = self._position(index)
        epoch = [1, self.epoch] if self.training else [0]
        rng = np.random.default_rng([self.seed, *epoch, position])
        episode, frame = _place(self._ends, position)
        frame += self.rules.first()
        farthest = self.rules.farthest_goal(frame, int(self._lengths[episode]))
        distance = int(rng.integers(farthest + 1))
        if distance:
            goal = episode, frame + distance * self.rules.stride
            return ImageGoalDraw(episode, frame, *goal, distance, False), rng
        goal = _place(self._frame_ends, int(rng.integers(self._frame_ends[-1])))
        return ImageGoalDraw(episode, frame, *goal, self.rules.longest_goal, True), rng

    def _image(self, episode: int, frame: int) -> np.ndarray:
        kept = self._kept.get((episode, frame))
        if kept is None:
            kept = sized(self._episode(episode).image(frame), self.image_size, self.crop)
            if self.keep_images:
                self._kept[episode, frame] = kept
        return kept

    def _group(self, row: Mapping[str, str]) -> str:
        """Of the published layout: the whole data set, not each trajectory."""
        return super()._group(row) if "/" in row["unit"] else self.data_root.name

    def _check_options(self) -> None:
        for key in ("num_memory_frames", "action_horizon", "stride", "longest_goal"):
            value = getattr(self.rules, key)
            check_option(key, value, value >= 1, "at least 1")
        slack = self.rules.end_slack
        check_option("end_slack", slack, slack >= 0, "at least 0")
        for key in ("goal_drop_share", "mirrored_share"):
            share = getattr(self, key)
            check_option(key, share, share is None or 0 <= share <= 1, "a share, 0 to 1")

    def _check_lengths(self) -> None:
        if not len(self):
            rules = self.rules
            needed = rules.first() + rules.action_horizon * rules.stride + rules.end_slack + 1
            raise ValueError(
                f"{self.data_root}: found no episode of {needed} frames (the longest has "
                f"{self._lengths.max()}), expected some: {rules.num_memory_frames} frames of "
                f"memory, {rules.action_horizon} waypoints and end_slack {rules.end_slack}"
            )

    def _spacing(self, given: float | None) -> float:
        poses = (self._episode(episode).poses for episode in range(self.episodes.num_rows))
        spacing = mean_spacing(list(poses)) if given is None else given
        is_number = isinstance(spacing, int | float)
        if not is_number or not 0 < spacing < np.inf:
            found = f"{spacing:g}" if is_number else repr(spacing)
            how = "measured" if given is None else "given"
            raise ValueError(
                f"{self.data_root}: waypoint_spacing_m: found {found} ({how}), expected metres "
                "from one frame to the next, more than 0: they are the unit of waypoints"
            )
        return spacing


class ImageGoalDatasets(ConcatDataset):
    """Several `ImageGoalDataset`, each with its own spacing, one after the other; not balanced, as
    published.
    """

    datasets: list[ImageGoalDataset]

    @property
    def spacings(self) -> dict[str, float]:
        """Metres of the unit of waypoints, by name of the data set: as much of its path as tells
        all of them apart.
        """
        paths = [Path(part.data_root).resolve().parts[1:] for part in self.datasets]
        depth = next((n for n in range(1, max(map(len, paths))) if _differ(paths, n)), 1)
        names = ["/".join(path[-depth:]) for path in paths]
        return {name: part.spacing_of(0) for name, part in zip(names, self.datasets, strict=True)}

    @property
    def cameras(self) -> list[CameraSpec]:
        """All different cameras."""
        return list(dict.fromkeys(camera for part in self.datasets for camera in part.cameras))

    def set_epoch(self, epoch: int) -> None:
        """As for each of them."""
        for part in self.datasets:
            part.set_epoch(epoch)

    @property
    def rules(self) -> SampleRules:
        """Those of the first."""
        return self.datasets[0].rules

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height), of the first."""
        return self.datasets[0].image_size

    def draw(self, index: int) -> ImageGoalDraw:
        """As of the part in which the sample is; so are the two below."""
        part, place = self._at(index)
        return part.draw(place)

    def spacing_of(self, index: int) -> float:
        """Metres of the unit of waypoints of sample `index`."""
        part, place = self._at(index)
        return part.spacing_of(place)

    def where(self, index: int) -> str:
        """Origin of a sample, for messages."""
        part, place = self._at(index)
        return part.where(place)

    def _at(self, index: int) -> tuple[ImageGoalDataset, int]:
        part, place = _place(np.asarray(self.cumulative_sizes), index)
        return self.datasets[part], place


class ImageGoalCollator:
    """Samples to one batch. Two samples of ViNT:

    rgb          (2, 6, 3, 64, 85)  uint8    oldest first
    goal_image   (2, 3, 64, 85)     uint8
    actions      (2, 5, 4)          float32  [[0.9, 0.1, 1, 0.1], ...] spacings, cos, sin
    distance     (2,)               float32  [4, 20] frames to the goal
    action_mask  (2,)               bool     [True, False] if the waypoints count
    goal_mask    (2,)               bool     False if the goal is hidden; NoMaD
    sample_mask  (2,)               bool     True
    """

    def __call__(self, samples: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The keys are the arguments of the models' `forward`."""
        batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
        return batch | {"sample_mask": torch.ones(len(samples), dtype=torch.bool)}


def mirrored(item: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Images and waypoints of `item` with left and right exchanged."""
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])  # x, y, cosine, sine
    images = {key: item[key].flip(-1) for key in ("rgb", "goal_image")}
    return images | {"actions": item["actions"] * signs[: item["actions"].shape[-1]]}


def _differ(paths: Sequence[tuple[str, ...]], depth: int) -> bool:
    """Whether the last `depth` parts tell different paths apart."""
    return len({path[-depth:] for path in paths}) == len(set(paths))


def _place(ends: np.ndarray, position: int) -> tuple[int, int]:
    """The part in which `position` lies, by the ends of all, and its place there."""
    part = int(np.searchsorted(ends, position, side="right"))
    return part, position - (int(ends[part - 1]) if part else 0)
