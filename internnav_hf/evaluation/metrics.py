"""Navigation metrics as VLN-CE defines them (habitat-lab: Success, SPL; VLN-CE: the rest), and as
VLN-PE does for a robot with a body.

T positions of an episode: the start and one after every action, STOP included (repeats the last).
`distances` (T,) are geodesic distances to the goal in metres. Success is strict: closer than
`success_distance`, and only if the agent called STOP itself.
Differs from VLN-CE: nDTW uses exact dynamic time warping (VLN-CE: fastdtw), and a collision rate,
for which VLN-CE has no code, is the share of actions that ran into something.

VLN-PE measures in the plane and asks for no STOP: who falls at the goal has reached it. What it
calls ndtw is no warping and is `reference_proximity` here. Legend: S simulator steps.
"""

from collections.abc import Sequence

import numpy as np

from internnav_hf.evaluation.records import Rollout
from internnav_hf.geometry import wrap_angle

NUM_STUCK_STEPS = 2500  # of the simulator, 50 actions

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


def physical_metrics(
    positions: np.ndarray,
    action_ends: np.ndarray,
    reference_path: np.ndarray,
    shortest: float,
    success_distance: float = 3.0,
) -> dict[str, float]:
    """VLN-PE's metrics of an episode: `positions` (S, 2 or more) of every simulator step, of which
    `action_ends` (S,) marks those where a discrete action ended; `shortest` in metres.
    """
    xy, reference = positions[:, :2], reference_path[:, :2]
    if not np.any(action_ends):
        raise ValueError("action_ends: found none; expected the end of an action at least.")
    ended = xy[action_ends]
    distances = np.linalg.norm(ended - reference[-1], axis=-1)
    reached = success_without_stop(distances, success_distance)
    return {
        "navigation_error": navigation_error(distances),
        "success": reached,
        "oracle_success": oracle_success(distances, success_distance),
        "path_length": path_length(xy),
        "spl": spl(xy, shortest, reached) if path_length(xy) > 0 else 0.0,
        "reference_proximity": reference_proximity(
            np.concatenate([xy[:1], ended]), reference, success_distance
        ),
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


def success_without_stop(distances: np.ndarray, success_distance: float) -> float:
    """VLN-PE: 1 if the robot ended close enough, stopped, fallen or out of time."""
    return float(distances[-1] < success_distance)


def reference_proximity(
    positions: np.ndarray, reference_path: np.ndarray, success_distance: float
) -> float:
    """VLN-PE's "ndtw": mean of exp(-d² / 2 success_distance²) over the positions, d the distance to
    the nearest corner of the reference.
    """
    apart = np.linalg.norm(positions[:, None] - reference_path[None], axis=-1).min(axis=1)
    return float(np.exp(-(apart**2) / (2 * success_distance**2)).mean())


def has_fallen(roll: float, pitch: float, height: float) -> bool:
    """VLN-PE: leans by more than 15° or 35° (radians), or its base is less than 0.5 m above its
    feet.
    """
    return bool(abs(pitch) > np.radians(35) or abs(roll) > np.radians(15) or height < 0.5)


def is_stuck(positions: np.ndarray, yaws: np.ndarray) -> bool:
    """VLN-PE: after 2500 simulator steps since the first of `positions` (S, 2), `yaws` (S,), within
    0.2 m and 15° of there.
    """
    moved = np.linalg.norm(positions[-1] - positions[0])
    turned = abs(wrap_angle(yaws[-1] - yaws[0]))
    return bool(len(positions) > NUM_STUCK_STEPS and moved < 0.2 and turned < np.pi / 12)


def fall_rate(fail_reasons: Sequence[str]) -> float:
    """VLN-PE: share of the episodes that ended in a fall."""
    return float(np.mean([reason == "fall" for reason in fail_reasons]))


def stuck_rate(fail_reasons: Sequence[str]) -> float:
    """VLN-PE: share of the episodes that ended stuck."""
    return float(np.mean([reason == "stuck" for reason in fail_reasons]))


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
