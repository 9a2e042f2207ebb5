"""Navigation metrics as VLN-CE defines them (habitat-lab: Success, SPL; VLN-CE: the rest).

T positions of an episode: the start and one after every action, STOP included (repeats the last).
`distances` (T,) are geodesic distances to the goal in metres. Success is strict: closer than
`success_distance`, and only if the agent called STOP itself.
Differs from VLN-CE: nDTW uses exact dynamic time warping (VLN-CE: fastdtw), and a collision rate,
for which VLN-CE has no code, is the share of actions that ran into something.
"""

import numpy as np

from internnav_hf.evaluation.records import Rollout


def episode_metrics(rollout: Rollout, success_distance: float) -> dict[str, float]:
    """Every metric of one episode under the field's short name."""
    positions, distances = rollout.positions, rollout.goal_distances
    reached = float(rollout.is_success(success_distance))
    known = rollout.shortest_distance
    similarity = ndtw(positions, rollout.reference_path, success_distance)
    return {
        "sr": reached,
        "spl": spl(positions, float(distances[0]) if known is None else known, reached),
        "os": float(distances.min() < success_distance),
        "ne": float(distances[-1]),
        "ndtw": similarity,
        "sdtw": similarity * reached,
        "collision_rate": float(np.mean(rollout.collisions)) if len(rollout.collisions) else 0.0,
        "tl": path_length(positions),
        "steps": float(len(positions) - 1),
    }


def summarize(episodes: list[dict[str, float]], seed: int = 0) -> dict:
    """Means over episodes, and a 95% bootstrap interval of SR."""
    if not episodes:
        raise ValueError(
            "There is no episode to summarise: ask for at least one scene and episode."
        )
    summary: dict = {name: float(np.mean([e[name] for e in episodes])) for name in episodes[0]}
    successes = np.array([episode["sr"] for episode in episodes])
    summary["sr_interval"] = list(bootstrap_interval(successes, seed))
    summary["num_episodes"] = len(episodes)
    return summary


def spl(positions: np.ndarray, shortest: float, reached: float) -> float:
    """Success weighted by shortest distance / walked distance; 0 for a start on the goal."""
    longest = max(shortest, path_length(positions))
    return reached * shortest / longest if longest > 0 else 0.0


def path_length(positions: np.ndarray) -> float:
    """Metres walked, straight from position to position."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=-1).sum())


def ndtw(positions: np.ndarray, reference_path: np.ndarray, success_distance: float) -> float:
    """exp(-DTW / (reference points * success_distance)); repeated positions count once."""
    moved = np.concatenate([[True], np.any(np.diff(positions, axis=0) != 0, axis=1)])
    cost = dynamic_time_warping(positions[moved], reference_path)
    return float(np.exp(-cost / (len(reference_path) * success_distance)))


def dynamic_time_warping(path: np.ndarray, reference: np.ndarray) -> float:
    """Smallest summed distance of a monotone alignment of `path` (N, D) and `reference` (M, D)."""
    costs = np.linalg.norm(path[:, None] - reference[None], axis=-1)
    above = np.cumsum(costs[0]).tolist()
    for row in costs[1:].tolist():
        best = above[0] + row[0]
        current = [best]
        for column in range(1, len(row)):
            best = row[column] + min(best, above[column], above[column - 1])
            current.append(best)
        above = current
    return float(above[-1])


def bootstrap_interval(values: np.ndarray, seed: int, num_draws: int = 2000) -> tuple[float, float]:
    """95% interval of the mean of `values` (N,) by resampling."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(values), size=(num_draws, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
