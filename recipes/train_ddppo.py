"""Train DD-PPO's point-goal agent by decentralised PPO in the embedded simulator, without data.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/train_ddppo.py --scenes 500
    ... --init_from CLONE      # of train_cloning.py, or released weights
    ... --num_environments 16 --max_steps 2400
    python recipes/train_ddppo.py recipes/demo_ddppo.yaml --max_steps 16    # file, then options

A depth image (or colours), a point and the last action in; the next step out. Each process drives
environments of its own, gradients are averaged, stragglers end their rollouts early. Defaults are
the published ones (arXiv 1911.00357; 64 GPUs, 2.5e9 frames): rollouts of 128 steps, 2 epochs of 2
minibatches, clip 0.2, Adam at 2.5e-4, epsilon 1e-5. Numbers of environments are ours.
"""

from dataclasses import dataclass, field

from transformers import set_seed

from internnav_hf.arguments.training import NavTrainingArguments, option, run_recipe
from internnav_hf.camera import stored_cameras
from internnav_hf.training.ddppo import DDPPOArguments, start_ddppo
from internnav_hf.training.ppo.settings import PPOArguments, SceneArguments, cores_per_process
from internnav_hf.training.ppo.trainer import PPOTrainer
from internnav_hf.training.trainer import checkpoint_to_resume


@dataclass
class DDPPOTrainingArguments(NavTrainingArguments):
    """Hyper-parameters of the optimiser, and of the run."""

    output_dir: str = option("outputs/train_ddppo", "Checkpoints, logs and the final model.")
    learning_rate: float = option(2.5e-4, "Default learning rate.")
    lr_scheduler_type: str = option("constant", "Schedule of the learning rate.")
    adam_epsilon: float = option(1e-5, "Adam's.")
    max_grad_norm: float = option(0.2, "Clip the gradient's norm.")
    logging_steps: float = option(40, "Optimisation steps between two lines of the log.")
    save_strategy: str = option("steps", "When to write a checkpoint.")
    dataloader_num_workers: int = field(
        default_factory=cores_per_process,
        metadata={"help": "Processes that run environments; default: as many as there are cores."},
    )
    bf16: bool = option(False, "Compute in bfloat16.")


def main(
    model_args: DDPPOArguments,
    ppo_args: PPOArguments,
    scene_args: SceneArguments,
    args: DDPPOTrainingArguments,
) -> None:
    """Train and save into `args.output_dir`."""
    ppo_args.fit(args)
    checkpoint = checkpoint_to_resume(args)
    set_seed(args.seed)
    model = start_ddppo(model_args.init_from, model_args.model_config)
    task = scene_args.task(model.config, args.seed)
    model.config.camera = stored_cameras(task.cameras)
    trainer = PPOTrainer(model, args, task, ppo_args, parents=[model_args.init_from])
    trainer.run(resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    kinds = (DDPPOArguments, PPOArguments, SceneArguments, DDPPOTrainingArguments)
    run_recipe(main, kinds, __doc__)
