"""A planner's samples: a view, a goal, and the map around.

    scene (views, poses, map) -> pairs of frame and goal -> depth, goal in the robot's frame, pose,
    a piece of the map

Nothing is labelled: the model learns what its paths cost on the map.

H and W rows and columns of images, X and Y cells of a piece of the map.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from internnav_hf.camera import CameraSpec
from internnav_hf.data.cost_maps.geometric import GeometricSettings
from internnav_hf.data.cost_maps.semantic import SemanticSettings
from internnav_hf.data.formats.planners.iplanner import LIST, POSES, IPlannerScene, environments
from internnav_hf.data.formats.planners.recorded import RecordedScene
from internnav_hf.data.formats.planners.scene import PlannerScene
from internnav_hf.data.formats.planners.viplanner import (
    EXTRINSICS,
    ViPlannerScene,
    viplanner_folders,
)
from internnav_hf.data.formats.vln_n1.reader import training_groups as groups_to_train_on
from internnav_hf.data.index import DEFAULT_CACHE
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import subfolders
from internnav_hf.data.rows import EpisodeRow
from internnav_hf.data.tasks.common import PLANNER
from internnav_hf.data.tasks.planner_noise import ImageNoise
from internnav_hf.data.tasks.planner_pairs import DrawnPairs, PairRules
from internnav_hf.models.planners.semantics import class_colours
from internnav_hf.models.planners.views import (
    depth_view,
    rgb_view,
    semantic_view,
    without_unknown_colours,
)

SECOND_IMAGES = ("semantics", "rgb")


class PlannerDataset(Dataset):
    """Samples of all scenes below `data_root` as a map-style dataset: environments of iPlanner or
    ViPlanner, or recorded walks of any format; `groups` are some of its environments, or groups of
    walks.

    `second_image`: what items have beside depth: "semantics", and then maps of recorded walks are
    made of classes, or "rgb".
    `pairs`: "ahead", of which `frame_stride` frames are a step, or "graph", by `pair_rules`.
    `held_out_fraction` of the pairs are those of a dataset with `training=False`, the rest those of
    one for training, drawn by `seed`; with 0 both have all. `map_reach_m`: the map of an item ends
    so far from its robot, and the values of its edge go on; None for all of it. `noise` is done to
    the images of a dataset for training; `set_epoch` draws other one, and other pairs if
    `pair_rules` say so.
    """

    def __init__(
        self,
        data_root: str | Path,
        image_height: int = 360,
        image_width: int = 640,
        max_depth_m: float = 10.0,
        second_image: str | None = None,
        groups: Sequence[str] | None = None,
        pairs: str = "ahead",
        frame_stride: int = 1,
        pair_rules: PairRules | None = None,
        map_settings: GeometricSettings | SemanticSettings | None = None,
        map_reach_m: float | None = 12.0,
        noise: ImageNoise | None = None,
        held_out_fraction: float = 0.0,
        training: bool = True,
        seed: int = 0,
        max_broken_fraction: float = 0.01,
        cache_dir: str | Path | None = None,
    ):
        self.data_root = Path(data_root)
        self.image_height, self.image_width = image_height, image_width
        self.max_depth_m, self.second_image = max_depth_m, second_image
        if second_image not in (None, *SECOND_IMAGES):
            raise ValueError(f"second_image: found {second_image!r}, expected {SECOND_IMAGES}")
        if noise is not None:
            noise.check_seen(second_image)
        uses_semantics = second_image == "semantics"
        self.map_reach_m = map_reach_m
        if pairs not in ("ahead", "graph"):
            raise ValueError(f"pairs: found {pairs!r}, expected 'ahead' or 'graph'")
        default = SemanticSettings() if uses_semantics else GeometricSettings()
        self.places = open_scenes(
            self.data_root,
            groups,
            map_settings or default,
            Path(cache_dir or DEFAULT_CACHE),
            max_broken_fraction,
        )
        for scene in self.places if second_image else ():
            self._seen(scene, scene.walks[0][0], "an image; a planner of depth alone needs none")
        self.noise, self.training, self.seed = noise, training, seed
        rules = pair_rules or PairRules()
        if uses_semantics:
            rules = replace(rules, ground_cost=SemanticSettings.reward)
        chosen = (rules, frame_stride, held_out_fraction, training, seed)
        self.drawn = DrawnPairs(pairs == "graph", *chosen)
        self.epoch, self._stage = 0, 0
        self.pairs = self._pairs(0)
        """(P, 4) scene, frame, goal's frame, whether mirrored"""
        if not len(self.pairs):
            raise ValueError(
                f"{self.data_root}: found no pair of a frame and a goal, expected some"
            )

    def set_epoch(self, epoch: int) -> None:
        """Draw other noise and, after `pair_rules.stage_epochs`, other pairs, as many."""
        self.epoch, stage = epoch, self.drawn.stage(epoch)
        if stage != self._stage:
            found, count, self._stage = self._pairs(stage), len(self.pairs), stage
            order = np.random.default_rng([self.seed, stage]).permutation(len(found))
            self.pairs = found[np.resize(order, count)] if len(found) else self.pairs

    def _pairs(self, stage: int) -> np.ndarray:
        rows = []
        for number, scene in enumerate(self.places):
            try:
                found = self.drawn.of(scene, number, stage)
            except ValueError as error:
                where = self.data_root / scene.name
                expected = "poses that a robot can be at"
                raise broken(where, "poses", str(error), expected) from error
            rows.append(np.column_stack([np.full(len(found), number), found]))
        return np.concatenate(rows)

    @property
    def cameras(self) -> list[CameraSpec]:
        """All different cameras."""
        return list(dict.fromkeys(scene.camera for scene in self.places))

    def scenes(self) -> dict[str, list[Path]]:
        """Folders of the scenes, by their group."""
        groups: dict[str, list[Path]] = {}
        for scene in self.places:
            group = Path(scene.name).parts[0]
            groups.setdefault(group, []).append(self.data_root / scene.name)
        return groups

    def __len__(self) -> int:
        return len(self.pairs)

    def where(self, index: int) -> str:
        """Origin of a sample, for messages."""
        scene, frame, goal, _ = self.pairs[index].tolist()
        return f"{self.data_root / self.places[scene].name}, frame {frame} to {goal}"

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, frame, goal, is_mirrored = self.pairs[index].tolist()
        scene = self.places[number]
        T_world_robot = scene.poses[frame]
        offset = scene.poses[goal][:3, 3] - T_world_robot[:3, 3]
        grid = scene.grid
        if self.map_reach_m is not None:
            grid = grid.around(T_world_robot[:2, 3], self.map_reach_m)
        size = (self.image_height, self.image_width)
        item = {
            "depth": depth_view(scene.depth(frame), *size, self.max_depth_m),
            "goal_point": _float(offset @ T_world_robot[:3, :3]),
            "T_world_robot": _float(T_world_robot),
            "cost_map": _float(grid.costs),
            "map_origin": _float(grid.origin),
            "map_resolution": torch.tensor(grid.resolution_m, dtype=torch.float32),
            "is_mirrored": torch.tensor(bool(is_mirrored)),
        }
        if grid.ground is not None:
            item["ground_map"] = _float(grid.ground)
        if self.second_image == "semantics":
            item["semantics"] = semantic_view(self._classes(scene, frame), *size)
        elif self.second_image == "rgb":
            item["rgb"] = rgb_view(self._seen(scene, frame), *size)
        if self.noise is not None and self.training:
            rng = np.random.default_rng([self.seed, self.epoch, index])
            item["depth"] = self.noise.depth(item["depth"], rng)
            if "semantics" in item:
                item["semantics"] = self.noise.semantics(item["semantics"], rng)
        if is_mirrored:
            images = ("depth", *SECOND_IMAGES)
            item |= {key: item[key].flip(-1) for key in images if key in item}
        return item

    def _seen(self, scene: PlannerScene, frame: int, expected: str = "an image") -> np.ndarray:
        """(rows, columns, 3) the second image."""
        seen = scene.rgb(frame) if self.second_image == "rgb" else scene.semantics(frame)
        if seen is None:
            found = f"none of frame {frame}"
            raise broken(self.data_root / scene.name, str(self.second_image), found, expected)
        return seen

    def _classes(self, scene: PlannerScene, frame: int) -> np.ndarray:
        known, share = without_unknown_colours(self._seen(scene, frame), class_colours())
        if share > 0:
            found = f"{share:.0%} of the pixels of frame {frame} in colours of no class"
            expected = "colours of ViPlanner's table"
            raise broken(self.data_root / scene.name, "semantics", found, expected)
        return known


class PlannerCollator:
    """Samples to one batch, the arguments of a planner's `forward`.

    Two samples of 360x640 pixels:

        depth            (2, 360, 640)     float32  metres, 0.2 to 10; 0 unknown
        semantics        (2, 3, 360, 640)  uint8    the classes' colours, or `rgb`, if it has any
        goal_point       (2, 3)            float32  [[2.1, 0.4, 0], [5.0, -1.2, 0]] m
        T_world_robot    (2, 4, 4)         float32  poses, m
        cost_map         (2, 481, 300)     float32  0 on free floor, to about 4; [x, y]
        ground_map       (2, 481, 300)     float32  m, if it has any
        map_origin       (2, 2)            float32  m
        map_resolution   (2,)              float32  [0.05, 0.05] m
        is_mirrored      (2,)              bool     [False, False]
        sample_mask      (2,)              bool     True

    Maps of several sizes are continued by their edges, which changes no cost.
    """

    def __call__(self, samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """See the class."""
        if any("ground_map" in sample for sample in samples):
            samples = [{"ground_map": torch.zeros_like(s["cost_map"])} | s for s in samples]
        size = np.max([sample["cost_map"].shape for sample in samples], axis=0).tolist()
        batch = {}
        for key in samples[0]:
            values = [sample[key] for sample in samples]
            values = [_grown(v, size) for v in values] if key.endswith("_map") else values
            batch[key] = torch.stack(values)
        return batch | {"sample_mask": torch.ones(len(samples), dtype=torch.bool)}


def open_scenes(
    root: Path,
    groups: Sequence[str] | None,
    settings: GeometricSettings | SemanticSettings,
    cache_dir: Path,
    max_broken_fraction: float = 0.01,
) -> Sequence[PlannerScene]:
    """All scenes below `root`, in the layout that their folders show."""
    if not root.is_dir():
        raise broken(root, "folder", "none", "a folder of environments or of recorded walks")
    folders = subfolders(root)
    if any((folder / POSES).exists() for folder in folders):
        wanted = settings if isinstance(settings, GeometricSettings) else None
        return [IPlannerScene(one, cache_dir, wanted) for one in environments(root, groups)]
    if any(list(folder.glob(EXTRINSICS)) for folder in folders):
        folders = viplanner_folders(root, groups)
        return [ViPlannerScene(one, cache_dir, settings) for one in folders]
    return recorded_scenes(root, groups, cache_dir, settings, max_broken_fraction)


def recorded_scenes(
    root: Path,
    groups: Sequence[str] | None,
    cache_dir: Path,
    settings: GeometricSettings | SemanticSettings,
    max_broken_fraction: float = 0.01,
) -> list[RecordedScene]:
    """All scenes below a data root of any format, or those of some of its groups."""
    scenes = []
    for table in PLANNER.below(root, groups, cache_dir, max_broken_fraction):
        assert table.folder is not None
        rows_of: dict[str, list[EpisodeRow]] = {}
        for number, unit in enumerate(table.episodes["unit"].to_pylist()):
            rows_of.setdefault(unit, []).append(EpisodeRow(table.episodes, number, root))
        for unit, rows in rows_of.items():
            scenes.append(RecordedScene(unit, rows, cache_dir, table.folder.name, settings))
    return scenes


def training_groups(
    root: str | Path, groups: Sequence[str] | None, held_out: Sequence[str] | None
) -> list[str] | None:
    """`groups`, or environments, by default all below `root`, without those held out."""
    if not groups and held_out and Path(root, LIST).exists():
        groups = [folder.name for folder in environments(Path(root))]
    return groups_to_train_on(root, groups, held_out)


def _grown(values: Tensor, size: Sequence[int]) -> Tensor:
    """A map (X, Y), continued by its edge to (X, Y) of `size`."""
    x, y = (
        torch.arange(wanted).clamp(max=n - 1) for wanted, n in zip(size, values.shape, strict=True)
    )
    return values[x[:, None], y]


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
