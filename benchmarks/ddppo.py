"""Frames per second of PPO beside the renderer alone, which bounds it.

    python -m benchmarks.ddppo [--workers 2]

One process trains a point-goal agent: what its views cost alone, whole steps of the environments,
steps that the model chooses, and these with the optimisation; in turns, several rounds, of which
the best counts. The share is that of the renderer, times --workers where these run in processes of
their own, if there are as many cores. Without --workers everything shares one core.
"""

import os
import time
from collections.abc import Callable

import numpy as np
import torch

from internnav_hf.command_line import LineParser
from internnav_hf.geometry import camera_pose
from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.models.ddppo.model import DDPPOModel
from internnav_hf.sim.episodes import scene_seeds
from internnav_hf.sim.point_goals import PointGoalTask
from internnav_hf.training.ppo.collector import Collector
from internnav_hf.training.ppo.pool import EnvironmentPool
from internnav_hf.training.ppo.settings import PPOArguments, SceneArguments
from internnav_hf.training.ppo.trainer import Objective

MODELS = {
    "small, 64x48": {
        "image_height": 48,
        "image_width": 64,
        "base_planes": 8,
        "num_blocks": (1, 1, 1),
        "block_type": "basic",
        "hidden_size": 128,
        "num_recurrent_layers": 1,
    },
    "ResNet-18, 128x128": {
        "image_height": 128,
        "image_width": 128,
        "num_blocks": (2, 2, 2, 2),
        "block_type": "basic",
    },
}


SELDOM = -4.0  # logit of a stop: episodes of about two hundred steps, as of agents that search


def main() -> None:
    """Print a table for each model."""
    parser = LineParser(__doc__)
    parser.add_argument("--workers", type=int, default=0, help="environment processes; 0: none")
    parser.add_argument("--environments", type=int, default=8)
    parser.add_argument("--steps", type=int, default=32, help="of a rollout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.workers and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{options.environments} environments, {options.workers} processes of their own")
    for name, fields in MODELS.items():
        torch.manual_seed(options.seed)
        _measure(name, DDPPOModel(DDPPOConfig(**fields)), options)


def _measure(name: str, model: DDPPOModel, options) -> None:
    settings = PPOArguments(num_environments=options.environments, rollout_steps=options.steps)
    task = SceneArguments(scenes=4).task(model.config, options.seed)
    seeds = scene_seeds(options.seed, "benchmark", options.environments)
    pool = EnvironmentPool(task, seeds, model.config.views, options.workers)
    collector = Collector(model, pool, settings, options.seed)
    with torch.no_grad():
        model.action_head.bias[0] = SELDOM
    optimizer = torch.optim.Adam(model.parameters(), 2.5e-4, eps=1e-5)
    frames = options.environments * options.steps
    generator = torch.Generator().manual_seed(options.seed)

    def step_environments() -> None:
        for _ in range(options.steps):
            pool.step(torch.randint(1, 4, (options.environments,), generator=generator))

    def train() -> None:
        objective = Objective(model, model, settings)
        batches = collector.batches(lambda *_: None)
        for _ in range(settings.steps_per_rollout):
            objective(**next(batches)).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.2)
            optimizer.step()
            optimizer.zero_grad()

    what: dict[str, Callable[[], object]] = {
        "renderer alone": _renderer(task, frames, options.seed),
        "environments, random actions": step_environments,
        "collection: the model's actions": collector.collect,
        "training: collection and optimisation": train,
    }
    best = dict.fromkeys(what, 0.0)
    for _ in range(options.rounds):
        for key, work in what.items():
            collector.start()
            start = time.perf_counter()
            work()
            best[key] = max(best[key], frames / (time.perf_counter() - start))
    pool.close()
    print(f"\n| {name}: {model.num_parameters():,} weights | frames/s | share of the bound |")
    print("|---|---|---|")
    bound = best["renderer alone"] * max(1, options.workers)
    for key, rate in best.items():
        print(f"| {key} | {rate:.0f} | {rate / bound:.2f} |")


def _renderer(task: PointGoalTask, frames: int, seed: int) -> Callable[[], None]:
    [environment] = task.environments([seed])
    environment.reset()
    place, rng = environment.place, np.random.default_rng(seed)
    height, pitch = task.camera.height_m, np.radians(task.camera.pitch_deg)
    places = [(place.space.sample(rng), rng.uniform(-np.pi, np.pi)) for _ in range(frames)]
    poses = [camera_pose(x, y, yaw, height, pitch) for (x, y), yaw in places]

    def render() -> None:
        for pose in poses:
            place.renderer.render(pose, task.camera)

    return render


if __name__ == "__main__":
    main()
