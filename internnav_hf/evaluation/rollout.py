"""Closed loop: an agent acts in several environments in lockstep.

`out/rollouts.jsonl` receives every episode as it ends, under a key made of everything that the
result depends on; a later run with the same key finds it there and goes on with the rest.

Processes that a launcher started share the episodes: each but the first writes a file of its own,
`rollouts.1.jsonl` and so on, and all files are read.
"""

import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from accelerate import PartialState
from tqdm import tqdm

from internnav_hf.data.readers.errors import broken
from internnav_hf.data.readers.folders import open_file
from internnav_hf.evaluation.agents import Agent
from internnav_hf.evaluation.records import DecisionRecord, Rollout, StoredRollout
from internnav_hf.files import writing
from internnav_hf.geometry import FORWARD_STEP_M, Action
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.sim.env import NavigationEnv
from internnav_hf.sim.episodes import NavigationEpisode
from internnav_hf.sim.scene_sets import Task
from internnav_hf.trajectory import chord_length

logger = logging.getLogger(__name__)

Running = TypeVar("Running")
LONGEST_LINE = 2**26  # bytes of an episode with its heatmaps and trajectories


@dataclass
class _RunningEpisode:
    """One environment in the middle of an episode."""

    env: NavigationEnv
    scene: str
    episode: NavigationEpisode
    observation: dict
    info: dict
    positions: list = field(default_factory=list)
    distances: list = field(default_factory=list)
    collisions: list = field(default_factory=list)
    actions: list = field(default_factory=list)

    def note(self, info: dict) -> None:
        self.info = info
        self.positions.append(np.asarray(info["position"], dtype=float))
        self.distances.append(float(info["geodesic_distance"]))

    def step(self, action: int) -> bool:
        """True when the episode is over."""
        self.observation, _, terminated, truncated, info = self.env.step(action)
        self.note(info)
        self.actions.append(int(action))
        self.collisions.append(bool(info["collided"]))
        return terminated or truncated

    def rollout(self, agent: str, decisions: list[DecisionRecord]) -> Rollout:
        return Rollout(
            agent=agent,
            scene=self.scene,
            episode_id=str(self.episode.episode_id),
            instruction=self.info["instruction"],
            positions=np.array(self.positions),
            goal_distances=np.array(self.distances),
            collisions=np.array(self.collisions, dtype=bool),
            actions=np.array(self.actions, dtype=int),
            reference_path=resample(np.asarray(self.episode.reference_path, dtype=float)),
            goal_position=self.episode.goal_xy,
            stop_called=self.actions[-1] == Action.STOP,
            shortest_distance=float(self.episode.geodesic_distance),
            num_unparsable=sum(d.kind == AnswerKind.UNPARSABLE.name for d in decisions),
            decisions=decisions,
        )


def resample(path: np.ndarray, spacing: float = FORWARD_STEP_M) -> np.ndarray:
    """Points at most `spacing` metres apart along the corners (N, 2), its ends among them.

    VLN-CE's nDTW compares with a reference of one point a step; with bare corners every step
    between two of them would cost.
    """
    distance = chord_length(path)
    places = np.linspace(0, distance[-1], int(np.ceil(distance[-1] / spacing)) + 1)
    return np.stack([np.interp(places, distance, axis) for axis in path.T], axis=1)


def run_in_lockstep(
    name: str,
    tasks: Sequence[tuple],
    num_parallel: int,
    start: Callable[..., Running],
    advance: Callable[[dict[int, Running]], Iterable[int]],
) -> None:
    """Run an agent's `tasks`, at most `num_parallel` at a time.

    `start(index, *task)` begins one in environment `index`; `advance` takes all running ones, by
    environment, through one round and yields the environments that are done.
    """
    waiting, running = deque(tasks), dict[int, Running]()
    is_hidden = not PartialState().is_main_process
    with tqdm(total=len(tasks), desc=name, unit="episode", disable=is_hidden) as progress:
        while waiting or running:
            for index in range(num_parallel):
                if index not in running and waiting:
                    running[index] = start(index, *waiting.popleft())
            for index in advance(dict(sorted(running.items()))):
                del running[index]
                progress.update()


def run_agent(
    agent: Agent,
    tasks: list[Task],
    make_env: Callable[[str], NavigationEnv],
    num_parallel: int,
    on_finished: Callable[[Rollout], None],
) -> None:
    """Run all `tasks`, at most `num_parallel` at a time; `make_env` takes a scene's name."""

    def start(index: int, scene: str, episode: NavigationEpisode) -> _RunningEpisode:
        env = make_env(scene)
        observation, info = env.reset(options={"episode": episode})
        agent.reset(index, env, info["instruction"])
        one = _RunningEpisode(env, scene, episode, observation, info)
        one.note(info)
        return one

    def advance(running: dict[int, _RunningEpisode]) -> Iterator[int]:
        observations = [one.observation for one in running.values()]
        actions = agent.act([*running], observations, [w.info for w in running.values()])
        for (index, one), action in zip(running.items(), actions, strict=True):
            if one.step(action):
                on_finished(one.rollout(agent.name, list(agent.decisions(index))))
                yield index

    run_in_lockstep(agent.name, tasks, num_parallel, start, advance)


@dataclass
class RolloutStore:
    """Finished episodes in `out/rollouts.jsonl`, and pictures of a few in `out/frames`.

    Pictures are kept of the first `num_drawn` successes and as many failures of each agent, and of
    the episodes `always_drawn`, by scene and name.
    """

    out: Path
    success_distance: float
    num_drawn: int = 3
    rollout_class: type[StoredRollout] = Rollout
    always_drawn: frozenset[tuple[str, str]] = frozenset()

    @property
    def path(self) -> Path:
        """Of this process, one line an episode."""
        number = PartialState().process_index
        return self.out / (f"rollouts.{number}.jsonl" if number else "rollouts.jsonl")

    def load(self, key: str) -> list[Any]:
        """Episodes that were finished under `key`, by any process; a line cut off is dropped.

        Raises ValueError that names the line of one that is broken.
        """
        paths = sorted(self.out.glob("rollouts*.jsonl"))
        return [rollout for path in paths for rollout in self._load_file(path, key)]

    def _load_file(self, path: Path, key: str) -> list[StoredRollout]:
        found, complete = [], 0
        with open_file(path) as file:
            lines = iter(lambda: file.readline(LONGEST_LINE), b"")
            for number, line in enumerate(lines, start=1):
                if len(line) == LONGEST_LINE:
                    raise _broken(path, number, f"more than {LONGEST_LINE} bytes")
                if not line.endswith(b"\n"):
                    logger.warning("%s: the last line is incomplete and is dropped.", path)
                    os.truncate(path, complete)
                    break
                complete += len(line)
                if key.encode() in line:
                    found += self._parsed(path, number, line, key)
        return found

    def _parsed(self, path: Path, number: int, line: bytes, key: str) -> list[StoredRollout]:
        try:
            entry = json.loads(line)
            return [self.rollout_class.from_dict(entry["rollout"])] if entry["key"] == key else []
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _broken(path, number, f"{type(error).__name__}: {error}") from error

    def append(self, key: str, rollout: StoredRollout, draw: bool) -> None:
        """Write one episode, with its views if `draw`."""
        with writing(self.path, "Start it again to go on."):
            for decision in rollout.decisions:
                if draw:
                    decision.image = self._save_view(key, rollout, decision)
                else:
                    decision.heatmap = decision.trajectories = decision.values = None
                decision.view = None
            self.out.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "rollout": rollout.to_dict()}) + "\n")

    def _save_view(self, key: str, rollout: StoredRollout, decision: DecisionRecord) -> str | None:
        if decision.view is None:
            return None
        # By key: another model in the same folder must not change what this one saw.
        name = f"frames/{rollout.agent}/{key}/"
        name += f"{rollout.scene}_{rollout.episode_id}_{decision.step}.jpg"
        target = self.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(decision.view)
        return name


def _broken(path: Path, number: int, found: str) -> ValueError:
    expected = "an episode of an evaluation; without the file all are run anew"
    return broken(f"{path}:{number}", "line", found, expected)


def evaluate_agent(
    agent: Agent,
    tasks: list[Task],
    make_env: Callable[[str], NavigationEnv],
    store: RolloutStore,
    settings: dict,
    num_parallel: int = 1,
) -> list[Rollout]:
    """Rollouts of all `tasks` in their order; see `finish_tasks`."""

    def run(remaining: list[Task], on_finished: Callable[[Rollout], None]) -> None:
        run_agent(agent, remaining, make_env, num_parallel, on_finished)

    return finish_tasks(run, tasks, store, {"agent": agent.name, **settings})


def finish_tasks(
    run: Callable[[list[Any], Callable[[Any], None]], None],
    tasks: Sequence[tuple[str, Any]],
    store: RolloutStore,
    settings: dict,
) -> list[Any]:
    """Rollouts of all `tasks` (scene name, episode) in their order; those already in the store
    under `settings` are read, and `run(remaining, on_finished)` runs the others: this process's
    share of them.

    `settings` (JSON values, the agent's name among them) must name everything that the rollouts
    depend on.
    """
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    names = [(scene, str(episode.episode_id)) for scene, episode in tasks]
    state = PartialState()

    def finished_before() -> dict[tuple[str, str], Any]:
        state.wait_for_everyone()  # nobody writes while others read
        found = {rollout.episode: rollout for rollout in store.load(key)}
        state.wait_for_everyone()
        return {name: found[name] for name in names if name in found}

    finished = finished_before()
    remaining = [task for task, name in zip(tasks, names, strict=True) if name not in finished]
    if finished:
        logger.info("%s: %d episodes were finished before.", settings["agent"], len(finished))

    def on_finished(rollout: StoredRollout) -> None:
        success = rollout.is_success(store.success_distance)
        same = [r for r in finished.values() if r.is_success(store.success_distance) == success]
        is_drawn = len(same) < store.num_drawn or rollout.episode in store.always_drawn
        store.append(key, rollout, draw=is_drawn)
        finished[rollout.episode] = rollout

    run(remaining[state.process_index :: state.num_processes], on_finished)
    if state.num_processes > 1 and remaining:
        finished = finished_before()
    return [finished[name] for name in names]


def file_stamps(path: Path) -> list[list]:
    """Name, size and time of a model's files, so that a retrained model is run again."""
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()]
