"""Train DD-PPO's point-goal agent: depth, a point and the last action in; the next step out.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/train_ddppo.py \\
        --data_root DATA --groups simulated_train --eval_groups simulated_val_unseen
    ... --init_from gibson-4plus-mp3d-train-val-test-resnet50.pth     # go on from released weights
    python recipes/train_ddppo.py recipes/demo_ddppo.yaml --max_steps 2     # file, then options
    accelerate launch ... recipes/train_ddppo.py --algorithm ppo --init_from CLONE --scenes 500

--algorithm cloning (default) learns an expert's actions on whole walks, to where they end: their
cross-entropy, a change of action weighing more, the recurrent state carried along. DATA holds walks
of discrete steps, `vln_pe` or `vln_ce`, whose own steps it learns, or any walks with poses and
depth, on which steps are laid. With exploration (`make_dataset.py --exploration 0.1 --turn_deg 10`)
it learns to recover. Nothing of this was published: network and learning rate are DD-PPO's, the
weights of changes VLN-CE's, 8 walks a step and 20 epochs ours. One GPU.

--algorithm ppo is decentralised PPO (arXiv 1911.00357) in the embedded simulator, without data,
from random weights or a clone's. Each process drives environments of its own, gradients are
averaged, stragglers end their rollouts early. Defaults are the published ones (64 GPUs, 2.5e9
frames): rollouts of 128 steps, 2 epochs of 2 minibatches, clip 0.2, Adam at 2.5e-4, epsilon 1e-5.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from transformers import set_seed

from internnav_hf.arguments import data
from internnav_hf.arguments.training import NavTrainingArguments, option, run_recipe
from internnav_hf.camera import stored_cameras
from internnav_hf.data import DDPPOCollator, DDPPODataset
from internnav_hf.data.formats.vln_n1.reader import training_groups
from internnav_hf.data.tasks.common import DDPPO, check_groups
from internnav_hf.evaluation.open_loop.ddppo import evaluate_ddppo_open_loop
from internnav_hf.training.ddppo import start_ddppo, tell_steps
from internnav_hf.training.ppo.settings import PPOArguments, SceneArguments, cores_per_process
from internnav_hf.training.ppo.trainer import PPOTrainer
from internnav_hf.training.trainer import NavTrainer, checkpoint_to_resume

DEFAULTS = {
    "cloning": {
        "lr_scheduler_type": "cosine",
        "adam_epsilon": 1e-8,
        "save_strategy": "epoch",
        "logging_steps": 10,
        "dataloader_num_workers": 4,
    },
    "ppo": {
        "lr_scheduler_type": "constant",
        "adam_epsilon": 1e-5,
        "save_strategy": "steps",
        "logging_steps": 40,
        "dataloader_num_workers": cores_per_process(),
    },
}


@dataclass
class ModelArguments:
    """Initial weights and sizes."""

    init_from: str | None = option(None, "Weights to continue from: ours or released ones.")
    model_config: str | None = option(None, "YAML or JSON file with other sizes, for a new model.")


@dataclass
class DataArguments(data.DataArguments):
    """Walks to clone."""

    data_root: str | None = option(None, "Folder of the data; cloning needs it.")  # pyright: ignore[reportIncompatibleVariableOverride]
    groups: list[str] | None = option(None, "Groups to train on; default: all but --eval_groups.")
    eval_groups: list[str] | None = option(None, "Held-out groups, for metrics while training.")
    max_walk_steps: int = option(500, "Steps at which a longer walk is cut.", low=1)
    arrival: float = option(0.2, "Metres from the goal at which to stop (published).", low=0)
    inflection_coefficient: float = option(
        3.2, "Weight of a step whose action differs from the one before.", above=0
    )


@dataclass
class DDPPOTrainingArguments(NavTrainingArguments):
    """Hyper-parameters of both algorithms."""

    algorithm: Literal["cloning", "ppo"] = option("cloning", "How it learns.")
    output_dir: str = option("outputs/train_ddppo", "Checkpoints, logs and the final model.")
    learning_rate: float = option(2.5e-4, "Default learning rate.")
    num_train_epochs: float = option(20.0, "Epochs.")
    per_device_train_batch_size: int = option(8, "Walks per GPU and forward pass.")
    lr_scheduler_type: str | None = option(None, "Default: cosine; ppo: constant.")  # pyright: ignore[reportIncompatibleVariableOverride]
    adam_epsilon: float | None = option(None, "Default: 1e-8; ppo: 1e-5.")  # pyright: ignore[reportIncompatibleVariableOverride]
    train_sampling_strategy: str = option("group_by_length", "Similarly long walks, or random.")
    save_strategy: str | None = option(None, "Default: epoch; ppo: steps.")  # pyright: ignore[reportIncompatibleVariableOverride]
    logging_steps: float | None = option(None, "Default: 10; ppo: 40, ten rollouts.")  # pyright: ignore[reportIncompatibleVariableOverride]
    dataloader_num_workers: int | None = option(  # pyright: ignore[reportIncompatibleVariableOverride]
        None, "Processes that load data, 4; ppo: that run environments, as many as there are cores."
    )
    eval_strategy: str = option("epoch", "When to evaluate, if there is held-out data.")
    bf16: bool = option(False, "Compute in bfloat16.")

    def __post_init__(self):
        for name, value in DEFAULTS[self.algorithm].items():
            setattr(self, name, value if getattr(self, name) is None else getattr(self, name))
        super().__post_init__()


def main(
    model_args: ModelArguments,
    data_args: DataArguments,
    ppo_args: PPOArguments,
    scene_args: SceneArguments,
    args: DDPPOTrainingArguments,
):
    """Train, evaluate and save into `args.output_dir`."""
    if args.algorithm == "ppo":
        ppo_args.fit(args)
        checkpoint = checkpoint_to_resume(args)
        set_seed(args.seed)
        model = start_ddppo(model_args.init_from, model_args.model_config)
        task = scene_args.task(model.config, args.seed)
        model.config.camera = stored_cameras(task.cameras)
        trainer = PPOTrainer(model, args, task, ppo_args, parents=[model_args.init_from])
        trainer.run(resume_from_checkpoint=checkpoint)
        return
    args.check_evaluation(data_args.eval_groups)
    root, eval_groups = data_args.data_root, data_args.eval_groups
    if root is None:
        raise ValueError("--data_root: expected the folder of walks to clone.")
    groups = training_groups(root, data_args.groups, eval_groups)
    check_groups(DDPPO, root, groups, eval_groups)
    checkpoint = checkpoint_to_resume(args)
    set_seed(args.seed)

    # ------------------------------ model and data ----------------------------
    model = start_ddppo(model_args.init_from, model_args.model_config)
    opened = partial(
        DDPPODataset,
        root,
        model.config,
        max_steps=data_args.max_walk_steps,
        arrival_m=data_args.arrival,
        inflection_coefficient=data_args.inflection_coefficient,
        max_broken_fraction=data_args.max_broken_fraction,
        cache_dir=data_args.cache_dir,
    )
    train_dataset = opened(groups)
    held_out = opened(eval_groups) if eval_groups else None
    tell_steps(model, train_dataset)
    model.config.camera = stored_cameras(train_dataset.cameras)

    # -------------------------------- training --------------------------------
    collator = DDPPOCollator()

    def open_loop(dataset: DDPPODataset, **drawn) -> dict[str, float]:
        return evaluate_ddppo_open_loop(model, dataset, collator, **drawn)

    NavTrainer(
        model=model,
        args=args,
        parents=[model_args.init_from],
        train_dataset=train_dataset,
        eval_dataset=held_out,
        num_eval_samples=data_args.num_eval_samples,
        data_collator=collator,
        open_loop=open_loop,
    ).run(resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    kinds = (ModelArguments, DataArguments, PPOArguments, SceneArguments, DDPPOTrainingArguments)
    run_recipe(main, kinds, __doc__)
