"""Goals that a planner is asked for: pairs of a frame, and another at whose place the goal is.

    ahead    iPlanner: 1, 6, 11, 16 and 21 frames ahead on the same walk; the last frame beyond it
    graph    ViPlanner: any pose that a graph of free, straight steps reaches, by distance and
             bearing; rare kinds are filled up with mirrored copies of what there is

Differs from the published code: the field of view is that of the camera (there `2 atan(fx / cx)`,
the inverse), and draws depend on the seed and the scene alone.

Legend: T frames, P pairs.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from internnav_hf.data.formats.planners.scene import PlannerScene

AHEAD = (1, 6, 11, 16, 21)
OBSTACLE_COST = 1.5  # above that of ground to be used, from which a pose lies in an obstacle
KINDS = ("view", "front", "behind")  # of bearings: in the camera's view, before the robot, or not


@dataclass(frozen=True)
class PairRules:
    """Rules of `graph`; the defaults are published.

    Fields:
        largest_cost: on the map, above `ground_cost`, of poses that count; None for all, as in
            iPlanner.
        ground_cost: of ground to be used. Published: 0.5 on maps of classes.
        farthest_m, nearest_m: along the graph, and straight.
        bins_m, bin_shares: ends of ranges of straight distance, and their shares of all pairs.
        kind_shares: of goals in view, in front outside of it, and behind.
        goals_per_bin: of one pose.
        pairs_per_pose: in all.
        stage_epochs: the published hierarchical choice: every so many epochs there are other pairs,
            with more goals in front, by `front_step`, and behind, by `behind_step`, and fewer in
            view; 0 for the same pairs always. Published: 50.
        pose_spacing_m: poses nearer to each other than that are left out; published recordings are
            sparse, walks are not.
    """

    largest_cost: float | None = OBSTACLE_COST
    ground_cost: float = 0.0
    farthest_m: float = 15.0
    nearest_m: float = 0.5
    bins_m: tuple[float, ...] = (1.0, 3.0, 5.0, 7.5, 10.0)
    bin_shares: tuple[float, ...] = (0.2, 0.35, 0.25, 0.15, 0.05)
    kind_shares: tuple[float, ...] = (0.96, 0.03, 0.01)
    goals_per_bin: int = 3
    pairs_per_pose: float = 4.0
    stage_epochs: int = 0
    front_step: float = 0.02
    behind_step: float = 0.01
    pose_spacing_m: float = 0.0

    def __post_init__(self):
        shares = self.kind_shares
        if len(shares) != len(KINDS) or min(shares) < 0 or not 0 < sum(shares) < np.inf:
            expected = f"{len(KINDS)} shares, 0 or more, of goals in view, in front and behind"
            raise ValueError(f"kind_shares: found {shares}, expected {expected}")

    def at_stage(self, stage: int) -> "PairRules":
        """The rules after `stage` changes of the shares."""
        view, front, behind = self.kind_shares
        more_front, more_behind = stage * self.front_step, stage * self.behind_step
        shares = (max(0.0, view - more_front - more_behind), front + more_front)
        return replace(self, kind_shares=(*shares, behind + more_behind))


@dataclass(frozen=True)
class DrawnPairs:
    """The pairs of a dataset: of the graph by `rules`, or frames ahead of which `frame_stride` are
    a step; without the `held_out_fraction` in `training`, else these alone.
    """

    is_graph: bool
    rules: PairRules
    frame_stride: int
    held_out_fraction: float
    training: bool
    seed: int

    def stage(self, epoch: int) -> int:
        """How often there have been other pairs."""
        every = self.rules.stage_epochs
        return epoch // every if every and self.is_graph and self.training else 0

    def of(self, scene: PlannerScene, number: int, stage: int) -> np.ndarray:
        """(P, 3) of a scene, the `number` of which seeds its draws; what is held out is the same at
        every stage.
        """
        rng = np.random.default_rng([self.seed, number])
        found = self._all(scene, rng, 0)
        num_held_out = round(self.held_out_fraction * len(found))
        order = rng.permutation(len(found)) if num_held_out else np.arange(len(found))
        held_out, rest = np.sort(order[:num_held_out]), np.sort(order[num_held_out:])
        if self.held_out_fraction and not self.training:
            return found[held_out]
        if not stage:
            return found[rest]
        other = self._all(scene, np.random.default_rng([self.seed, number, stage]), stage)
        keys = [pairs[:, 0] * len(scene.poses) + pairs[:, 1] for pairs in (other, found[held_out])]
        return other[~np.isin(*keys)]

    def _all(self, scene: PlannerScene, rng: np.random.Generator, stage: int) -> np.ndarray:
        if self.is_graph:
            return pairs_of_graph(scene, self.rules.at_stage(stage), rng)
        costs = scene.grid.at(scene.poses[:, :2, 3])
        _check_some_are_free(costs, OBSTACLE_COST + self.rules.ground_cost)
        return pairs_ahead(scene, self.frame_stride)


def pairs_ahead(scene: PlannerScene, stride: int = 1, offsets: tuple[int, ...] = AHEAD):
    """(P, 3) frame, goal's frame, 0; `stride` frames make a step. A single frame has no goal."""
    pairs = [
        (frame, min(frame + stride * offset, walk[-1]), 0)
        for walk in scene.walks
        if len(walk) > 1
        for offset in offsets
        for frame in walk
    ]
    return np.array(pairs, np.int32).reshape(-1, 3)


def pairs_of_graph(scene: PlannerScene, rules: PairRules, rng: np.random.Generator) -> np.ndarray:
    """(P, 3) frame, goal's frame, whether both are to be mirrored; ValueError if no pose counts."""
    frames = chosen_frames(scene, rules)
    xy = scene.poses[frames, :2, 3]
    steps = free_steps(scene, xy, OBSTACLE_COST + rules.ground_cost)
    lengths = dijkstra(steps, directed=False, limit=rules.farthest_m)
    offsets = xy[None] - xy[:, None]
    distance = np.linalg.norm(offsets, axis=-1)
    heading = np.arctan2(scene.poses[frames, 1, 0], scene.poses[frames, 0, 0])
    bearing = np.abs(
        np.angle(np.exp(1j * (np.arctan2(offsets[..., 1], offsets[..., 0]).T - heading).T))
    )
    kind = np.where(
        bearing <= np.radians(scene.camera.hfov_deg) / 2, 0, np.where(bearing <= np.pi / 2, 1, 2)
    )
    is_goal = np.isfinite(lengths) & (distance >= rules.nearest_m)
    total = rules.pairs_per_pose * len(frames)
    lows, pairs = (0.0, *rules.bins_m[:-1]), []
    for low, high, share in zip(lows, rules.bins_m, rules.bin_shares, strict=True):
        for number, kind_share in enumerate(rules.kind_shares):
            fits = is_goal & (kind == number) & (low < distance) & (distance <= high)
            wanted = round(total * share * kind_share)
            pairs.append(_some(fits, wanted, rules.goals_per_bin, rng))
    found = np.concatenate(pairs)
    if not len(found):
        raise ValueError(
            f"no goal for {len(frames)} poses, expected some within {rules.bins_m[-1]:g} m"
        )
    return np.column_stack([frames[found[:, :2]], found[:, 2]]).astype(np.int32)


def chosen_frames(scene: PlannerScene, rules: PairRules) -> np.ndarray:
    """(T,) frames whose poses count."""
    frames = np.concatenate([np.array(walk) for walk in scene.walks])
    if rules.largest_cost is not None:
        costs = scene.grid.at(scene.poses[frames, :2, 3])
        largest = rules.largest_cost + rules.ground_cost
        _check_some_are_free(costs, largest)
        frames = frames[costs < largest]
    if not rules.pose_spacing_m:
        return frames
    kept, last = [], None
    for frame in frames.tolist():
        place = scene.poses[frame, :2, 3]
        if last is None or np.linalg.norm(place - last) >= rules.pose_spacing_m:
            kept, last = [*kept, frame], place
    return np.array(kept)


def _check_some_are_free(costs: np.ndarray, largest_cost: float) -> None:
    if costs.min() >= largest_cost:
        raise ValueError(
            f"poses of {costs.min():.2f} and more on the map, expected some below"
            f" {largest_cost:g}: do map and poses belong together?"
        )


def free_steps(
    scene: PlannerScene, xy: np.ndarray, largest_cost: float = OBSTACLE_COST, neighbours: int = 3
):
    """A sparse matrix of the lengths of straight steps between near places (N, 2), at whose inner
    quarters the map is free.
    """
    count = min(neighbours + 1, len(xy))
    distance, nearest = (np.reshape(v, (len(xy), -1)) for v in KDTree(xy).query(xy, count))
    start = np.repeat(np.arange(len(xy)), nearest.shape[1])
    end, length = nearest.ravel(), distance.ravel()
    inner = [xy[start] + share * (xy[end] - xy[start]) for share in (0.25, 0.5, 0.75)]
    is_free = np.all([scene.grid.at(points) < largest_cost for points in inner], axis=0)
    is_free &= start != end
    # two robots at one place are a step of no length, which a sparse matrix would not keep
    step = (np.maximum(length, 1e-6)[is_free], (start[is_free], end[is_free]))
    return coo_matrix(step, (len(xy), len(xy))).tocsr()


def _some(
    fits: np.ndarray, wanted: int, goals_per_pose: int, rng: np.random.Generator
) -> np.ndarray:
    """(P, 3) about `wanted` pairs of those that fit (N, N), at most a few of each pose; mirrored
    copies where there are too few.
    """
    starts, goals = np.nonzero(fits)
    order = rng.permutation(len(starts))
    starts, goals = starts[order], goals[order]
    rank = np.zeros(len(starts), int)
    by_start = np.argsort(starts, kind="stable")
    _, first, count = np.unique(starts[by_start], return_index=True, return_counts=True)
    rank[by_start] = np.arange(len(starts)) - np.repeat(first, count)
    pairs = np.column_stack([starts, goals, np.zeros(len(starts), int)])[rank < goals_per_pose]
    pairs = pairs[:wanted]
    missing = min(wanted - len(pairs), len(pairs))
    copies = pairs[rng.choice(len(pairs), missing, replace=False)] if missing > 0 else pairs[:0]
    return np.concatenate([pairs, copies + np.array([0, 0, 1])])
