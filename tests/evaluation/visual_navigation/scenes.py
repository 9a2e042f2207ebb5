"""A hall with a block in the middle, and a policy that answers by a rule, to test System1s with."""

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.visual_navigation.drive import DrivingRules, DrivingRun
from internnav_hf.evaluation.visual_navigation.episodes import DrivingEpisode, DrivingScenes
from internnav_hf.policies import NavDPStep
from tests.sim.boxes import hall

CAMERA = CameraSpec(width=64, height=48, pitch_deg=20)
BLOCK = hall(((3.0, 3.0, 0.5), (1.0, 2.0, 1.0)))
SCENES = DrivingScenes([BLOCK], CAMERA)


def episode(start=(1.0, 1.0, 0.0), goal=(4.0, 1.0, 0.0), name="x") -> DrivingEpisode:
    space = SCENES.places["hall"].space
    if goal is None:
        return DrivingEpisode(name, "hall", start, None, np.array([start[:2]]), 0.0)
    path = space.shortest_path(np.array(start[:2]), np.array(goal[:2]))
    length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    return DrivingEpisode(name, "hall", start, goal, path, length)


def start_drive(task="point-goal", rules=None, **places) -> DrivingRun:
    return DrivingRun(
        SCENES.places["hall"], CAMERA, rules or DrivingRules(), task, episode(**places)
    )


class FanPolicy:
    """Straight lines in five directions, the middle one the best; counts its calls."""

    needs_semantics = False

    def __init__(self, goal_kinds=("point", "image", "pixel", "none")):
        self.goal_kinds = goal_kinds
        self.batch_sizes: list[int] = []
        self.started: list[str] = []

    def start(self, name):
        self.started.append(name)
        return name

    def steps(self, episodes, observations, goals):
        self.batch_sizes.append(len(episodes))
        angles = np.radians([0, -20, 20, -40, 40])
        lines = np.linspace(0, 2, 9)[:, None] * np.stack([np.cos(angles), np.sin(angles)])[:, None]
        trajectories = np.stack(lines, axis=-1).transpose(1, 0, 2)
        values = 1.0 - np.abs(angles)
        return [NavDPStep(trajectories[0], trajectories, values) for _ in episodes]
