"""Navigation metrics as VLN-CE defines them (habitat-lab: Success, SPL; VLN-CE: the rest).

T positions of an episode: the start and one after every action, STOP included (repeats the last).
`distances` (T,) are geodesic distances to the goal in metres. Success is strict: closer than
`success_distance`, and only if the agent called STOP itself.
Differs from VLN-CE: nDTW uses exact dynamic time warping (VLN-CE: fastdtw), and a collision rate,
for which VLN-CE has no code, is the share of actions that ran into something.
"""

import numpy as np

from internnav_hf.evaluation.records import Rollout

# metric of an episode -> name of its mean in a summary, in the order of the table
SUMMARY_NAMES = {
    "success": "sr",
    "spl": "spl",
    "oracle_success": "os",
    "navigation_error": "ne",
    "ndtw": "ndtw",
    "sdtw": "sdtw",
    "collision_rate": "collision_rate",
    "path_length": "tl",
    "num_steps": "steps",
}


def episode_metrics(rollout: Rollout, success_distance: float) -> dict[str, float]:
    """Every metric of one episode by name."""
    positions, distances = rollout.positions, rollout.goal_distances
    reached = success(distances, rollout.stop_called, success_distance)
    known = rollout.shortest_distance
    shortest = float(distances[0]) if known is None else known
    efficiency = spl(positions, shortest, reached)
    similarity = ndtw(positions, rollout.reference_path, success_distance)
    return {
        "navigation_error": navigation_error(distances),
        "success": reached,
        "spl": efficiency,
        "oracle_navigation_error": oracle_navigation_error(distances),
        "oracle_success": oracle_success(distances, success_distance),
        "oracle_spl": oracle_spl(efficiency),
        "path_length": path_length(positions),
        "ndtw": similarity,
        "sdtw": sdtw(similarity, reached),
        "collision_rate": collision_rate(rollout.collisions),
        "num_steps": num_steps(positions),
    }


def summarize(episodes: list[dict[str, float]], seed: int = 0) -> dict:
    """Means over episodes under the field's short names, and a 95% bootstrap interval of SR."""
    if not episodes:
        raise ValueError(
            "There is no episode to summarise: ask for at least one scene and episode."
        )
    summary: dict = {
        short: float(np.mean([episode[name] for episode in episodes]))
        for name, short in SUMMARY_NAMES.items()
    }
    successes = np.array([episode["success"] for episode in episodes])
    summary["sr_interval"] = list(bootstrap_interval(successes, seed))
    summary["num_episodes"] = len(episodes)
    return summary


def navigation_error(distances: np.ndarray) -> float:
    """Distance to the goal where the agent ended, metres."""
    return float(distances[-1])


def success(distances: np.ndarray, stop_called: bool, success_distance: float) -> float:
    """1 if the agent stopped by itself, close enough to the goal."""
    return float(stop_called and distances[-1] < success_distance)


def spl(positions: np.ndarray, shortest: float, reached: float) -> float:
    """Success weighted by shortest distance / walked distance; 0 for a start on the goal."""
    longest = max(shortest, path_length(positions))
    return reached * shortest / longest if longest > 0 else 0.0


def oracle_navigation_error(distances: np.ndarray) -> float:
    """Distance to the goal at the closest moment, metres."""
    return float(distances.min())


def oracle_success(distances: np.ndarray, success_distance: float) -> float:
    """Was the agent ever close enough, STOP or not."""
    return float(distances.min() < success_distance)


def oracle_spl(spl_of_episode: float) -> float:
    """The best SPL at any moment; only STOP can succeed and it ends the episode, so it is SPL."""
    return spl_of_episode


def path_length(positions: np.ndarray) -> float:
    """Metres walked, straight from position to position."""
    return float(_step_lengths(positions).sum())


def ndtw(positions: np.ndarray, reference_path: np.ndarray, success_distance: float) -> float:
    """exp(-DTW / (reference points * success_distance)); repeated positions count once."""
    moved = np.concatenate([[True], np.any(np.diff(positions, axis=0) != 0, axis=1)])
    cost = dynamic_time_warping(positions[moved], reference_path)
    return float(np.exp(-cost / (len(reference_path) * success_distance)))


def sdtw(similarity: float, reached: float) -> float:
    """nDTW of successful episodes, 0 for the others."""
    return similarity * reached


def collision_rate(collisions: np.ndarray) -> float:
    """Share of the actions (STOP included) that ran into something."""
    return float(np.mean(collisions)) if len(collisions) else 0.0


def num_steps(positions: np.ndarray) -> float:
    """Actions taken, STOP included."""
    return float(len(positions) - 1)


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


def _step_lengths(positions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(positions, axis=0), axis=-1)
