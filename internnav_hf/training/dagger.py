"""DAgger's episodes: a policy acts, and at every step the expert gives the action that it prefers.

VLN-CE's (arXiv 2004.02857): at each step the expert's action is executed with probability beta, and
the policy's otherwise; either way the policy learns the expert's. The expert is that of the
demonstrations: the shortest path that keeps off walls, and a turn to the goal at its end.

They are written as `vln_pe`: `observation.action` is the expert's, `observation.previous_action`
the executed one; `observation.expert_actions` and `expert_steps` are the expert's next actions and
their number, for RDP, which learns several steps at a time, and when to stop. An episode ends when
STOP is executed or after `max_steps`.
"""

import json
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from internnav_hf.camera import CameraSpec
from internnav_hf.data.features import encoder_digest
from internnav_hf.data.readers.json_files import read_json
from internnav_hf.files import remove_stale, write_atomic
from internnav_hf.geometry import Action
from internnav_hf.policies.policy import InstructionPolicy
from internnav_hf.sim.env import NavigationEnv, episode_name
from internnav_hf.sim.episodes import GoalFields
from internnav_hf.sim.expert import MAX_STEPS, Expert
from internnav_hf.sim.scene_sets import SceneSet, SceneWithEpisodes
from internnav_hf.sim.writers.vln_pe import (
    RecordedEpisode,
    distances_to,
    progress_of,
    vln_pe_folder,
)

logger = logging.getLogger(__name__)

SCAN = "simulated_dagger"  # folder of the scenes in the data root
SETTINGS_FILE = "dagger.json"


@dataclass
class _RunningEpisode:
    """One robot in the middle of an episode; the lists have an entry for each step."""

    env: NavigationEnv
    expert: Expert
    memory: Any
    rng: np.random.Generator
    observation: dict
    info: dict
    poses: list[tuple[float, float, float]] = field(default_factory=list)
    rgb: list[np.ndarray] = field(default_factory=list)
    depth: list[np.ndarray] = field(default_factory=list)
    plans: list[list[int]] = field(default_factory=list)
    executed: list[int] = field(default_factory=list)

    def shown(self) -> dict:
        """What the policy sees, and what was done last."""
        pose = (*self.info["position"], self.info["yaw"])
        last = {"previous_action": self.executed[-1]} if self.executed else {}
        return {**self.observation, "pose": pose, **last}

    def step(self, policy_action: int, beta: float) -> bool:
        """Note the step, execute one of the two actions; True when the episode is over."""
        env, position, yaw = self.env, self.info["position"], self.info["yaw"]
        plan = self.expert.plan(np.array(position), yaw)
        action = plan[0] if self.rng.random() < beta else policy_action
        self.poses.append((*position, yaw))
        self.rgb.append(self.observation["rgb"])
        self.depth.append(self.observation["depth"])
        self.plans.append(plan)
        self.executed.append(action)
        self.observation, _, terminated, truncated, self.info = env.step(Action(action))
        return terminated or truncated

    def recorded(self) -> RecordedEpisode:
        """All of it."""
        poses, episode = np.array(self.poses), self.env.episode
        left = distances_to(self.env.space, np.array(episode.goal_xy), poses[:, :2])
        return RecordedEpisode(
            episode.instructions,
            poses,
            np.stack(self.rgb),
            np.stack(self.depth),
            actions=np.array([plan[0] for plan in self.plans]),
            progress=progress_of(left),
            executed=np.array(self.executed),
            plans=self.plans,
        )


def collect(
    policy: InstructionPolicy,
    scene_set: SceneSet,
    camera: CameraSpec,
    out: str | Path,
    beta: float,
    seed: int,
    num_episodes: int,
    num_parallel: int = 8,
    max_steps: int = MAX_STEPS,
) -> Path:
    """Run the first `num_episodes` of `scene_set`; returns `out`, a data root.

    The expert acts at each step with probability `beta`; `seed` and the name of an episode decide
    when. A scene is whole or not there: what a killed run has finished stays. Raises ValueError if
    `out` has episodes of other settings, or of a policy with other weights.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta: found {beta}, expected a probability.")
    out = Path(out)
    tasks = scene_set.tasks[:num_episodes]
    settings = {
        "beta": beta,
        "seed": seed,
        "max_steps": max_steps,
        "camera": camera.to_dict(),
        "course": scene_set.digest(),
        "num_episodes": len(tasks),
        "policy": encoder_digest(policy.model.state_dict(), {}),
    }
    _check_settings(out, settings)
    remove_stale(out / SCAN)
    with tqdm(total=len(tasks), desc="DAgger", unit="episode") as progress:
        for name, place in scene_set.scenes.items():
            episodes = [episode for scene, episode in tasks if scene == name]
            folder = out / SCAN / name
            if episodes and not folder.exists():
                done = _episodes(
                    policy, place, episodes, camera, beta, seed, num_parallel, max_steps
                )
                with vln_pe_folder(folder, camera, {"scene": name, "beta": beta}) as writer:
                    for episode in done:
                        writer.add(episode)
            progress.update(len(episodes))
    return out


def _episodes(
    policy: InstructionPolicy,
    place: SceneWithEpisodes,
    episodes: list,
    camera: CameraSpec,
    beta: float,
    seed: int,
    num_parallel: int,
    max_steps: int,
) -> Iterator[RecordedEpisode]:
    """Yields `episodes` in their order, run at most `num_parallel` at a time in one call of the
    policy. A recording is large, and leaves as soon as those before it have.
    """
    fields = GoalFields(place.scene, place.space)
    waiting, running = deque(enumerate(episodes)), dict[int, _RunningEpisode]()
    done: dict[int, RecordedEpisode] = {}
    num_given = 0
    while waiting or running:
        while waiting and len(running) < num_parallel:
            index, episode = waiting.popleft()
            env = NavigationEnv(
                place.scene, camera, [episode], max_steps=max_steps, space=place.space
            )
            observation, info = env.reset(options={"episode": episode})
            name = episode_name(env)
            running[index] = _RunningEpisode(
                env,
                Expert(episode, fields.of(episode)),
                policy.start(info["instruction"], name),
                np.random.default_rng([seed, *name.encode()]),
                observation,
                info,
            )
        indices = sorted(running)
        memories = [running[index].memory for index in indices]
        steps = policy.steps(memories, [running[index].shown() for index in indices])
        for index, step in zip(indices, steps, strict=True):
            if running[index].step(step.actions[0], beta):
                done[index] = running.pop(index).recorded()
        while num_given in done:
            yield done.pop(num_given)
            num_given += 1


def _check_settings(out: Path, settings: dict) -> None:
    """Raise ValueError if episodes of other settings are there; else `settings` are written."""
    path = out / SETTINGS_FILE
    if path.is_file():
        stored = read_json(path)
        changed = [name for name in settings if stored.get(name) != settings[name]]
        if changed:
            listed = ", ".join(f"{n} was {stored.get(n)}, is {settings[n]}" for n in changed)
            raise ValueError(f"{out}: found episodes of other settings ({listed}); choose another.")
        return
    write_atomic(path, lambda part: part.write_text(json.dumps(settings, indent=2) + "\n"))
