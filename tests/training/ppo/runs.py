"""Small PPO trainings in a small room."""

from typing import Any

from internnav_hf.arguments.training import NavTrainingArguments
from internnav_hf.training.ppo.settings import PPOArguments, SceneArguments
from internnav_hf.training.ppo.trainer import PPOTrainer
from tests.tiny.ddppo import tiny_ddppo

ROOM: dict[str, Any] = {
    "scenes": 1,
    "num_rooms": [1, 1],
    "num_objects": [1, 1],
    "episode_steps": 12,
    "grid_resolution": 0.1,
}
SETTINGS = {"num_environments": 3, "rollout_steps": 8}


def ppo_trainer(folder, settings=None, scenes=None, model=None, **options) -> PPOTrainer:
    defaults = {
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "learning_rate": 2.5e-4,
        "adam_epsilon": 1e-5,
        "max_grad_norm": 0.2,
        "lr_scheduler_type": "constant",
        "max_steps": 8,
        "logging_steps": 2,
        "dataloader_num_workers": 0,
    }
    model = model or tiny_ddppo(image_height=16, image_width=16)
    args = NavTrainingArguments(output_dir=str(folder), **defaults | options)
    own = PPOArguments(**SETTINGS | (settings or {}))
    own.fit(args)
    task = SceneArguments(**ROOM | (scenes or {})).task(model.config, args.seed)
    return PPOTrainer(model, args, task, own)
