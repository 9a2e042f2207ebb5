"""Clone an expert's steps to a point: DD-PPO's agent, without reinforcement.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/train_cloning.py \\
        --data_root DATA --groups simulated_train --eval_groups simulated_val_unseen
    ... --init_from gibson-4plus-mp3d-train-val-test-resnet50.pth     # go on from released weights
    python recipes/train_cloning.py recipes/demo_cloning.yaml --max_steps 2  # file, then options

A depth image (or colours), a point and the last action in; the next step out. The agent learns an
expert's actions on whole walks, to where they end: their cross-entropy, a change of action weighing
more, the recurrent state carried along. DATA holds walks of discrete steps, `vln_pe` or `vln_ce`,
whose own steps it learns, or any walks with poses and depth, on which steps are laid. With
exploration (`make_dataset.py --exploration 0.1 --turn_deg 10`) it learns to recover. Nothing of
this was published: network and learning rate are DD-PPO's, the weights of changes VLN-CE's, 8 walks
a step and 20 epochs ours. One GPU. `train_ddppo.py` goes on from the clone by PPO.
"""

from dataclasses import dataclass
from functools import partial

from transformers import set_seed

from internnav_hf.arguments import data
from internnav_hf.arguments.training import NavTrainingArguments, option, run_recipe
from internnav_hf.camera import stored_cameras
from internnav_hf.data import DDPPOCollator, DDPPODataset
from internnav_hf.data.formats.vln_n1.reader import training_groups
from internnav_hf.data.tasks.common import DDPPO, check_groups
from internnav_hf.evaluation.open_loop.vln import evaluate_vln_open_loop
from internnav_hf.training.ddppo import DDPPOArguments, start_ddppo, tell_steps
from internnav_hf.training.trainer import NavTrainer, checkpoint_to_resume


@dataclass
class DataArguments(data.DataArguments):
    """Walks to clone."""

    groups: list[str] | None = option(None, "Groups to train on; default: all but --eval_groups.")
    eval_groups: list[str] | None = option(None, "Held-out groups, for metrics while training.")
    max_walk_steps: int = option(500, "Steps at which a longer walk is cut.", low=1)
    arrival: float = option(0.2, "Metres from the goal at which to stop (published).", low=0)
    inflection_coefficient: float = option(
        3.2, "Weight of a step whose action differs from the one before.", above=0
    )


@dataclass
class CloningTrainingArguments(NavTrainingArguments):
    """Hyper-parameters."""

    output_dir: str = option("outputs/train_cloning", "Checkpoints, logs and the final model.")
    learning_rate: float = option(2.5e-4, "Default learning rate.")
    num_train_epochs: float = option(20.0, "Passes over the data.")
    per_device_train_batch_size: int = option(8, "Walks per GPU and forward pass.")
    lr_scheduler_type: str = option("cosine", "Schedule of the learning rate.")
    train_sampling_strategy: str = option("group_by_length", "Similarly long walks, or random.")
    save_strategy: str = option("epoch", "When to write a checkpoint.")
    eval_strategy: str = option("epoch", "When to evaluate, if there is held-out data.")
    bf16: bool = option(False, "Compute in bfloat16.")


def main(
    model_args: DDPPOArguments, data_args: DataArguments, args: CloningTrainingArguments
) -> None:
    """Train, evaluate and save into `args.output_dir`."""
    args.check_evaluation(data_args.eval_groups)
    root, eval_groups = data_args.data_root, data_args.eval_groups
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
    tell_steps(model, train_dataset)  # before what is held out, which may have to be laid in steps
    held_out = opened(eval_groups) if eval_groups else None
    model.config.camera = stored_cameras(train_dataset.cameras)

    # -------------------------------- training --------------------------------
    collator = DDPPOCollator()

    def open_loop(dataset: DDPPODataset, **drawn) -> dict[str, float]:
        return evaluate_vln_open_loop(model, dataset, collator, **drawn)

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
    run_recipe(main, (DDPPOArguments, DataArguments, CloningTrainingArguments), __doc__)
