"""Train Seq2Seq, CMA or RDP: the views of a whole episode and its instruction in, actions out.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/train_vln.py --model cma \\
        --data_root DATA/vln_pe/traj_data --vocabulary train.json.gz
    ... --eval_scans r2r_flash                       # held out, for metrics while training
    ... --model cma_plus --init_from CHECKPOINT      # from weights of VLN-CE, or of ours
    python recipes/train_vln.py recipes/demo_vln_cma.yaml --max_steps 2     # file, then options

DATA/vln_pe/traj_data holds scans of InternData-N1's `vln_pe`: r2r/, ... or what make_dataset.py
writes. Defaults are the publication's (VLN-PE: arXiv 2507.13019), AdamW in float32 at 1e-4 with a
cosine, 2 episodes a GPU, at most 200 steps of each, inflections weighing 3.2, a checkpoint an
epoch. --published documented (default) takes warm-up and weight decay as they were configured;
executed takes neither, because the published code did not read them:

                           seq2seq    cma     seq2seq_plus    cma_plus    rdp
    epochs, GPUs           80, 1      80, 1   55, 1           55, 1       50, 4
    warm-up (documented)   10%        5%      10%             5%          10%
    decay (documented)     1e-4       1e-5    1e-4            1e-5        1e-4

Encoders start from DD-PPO's depth network, torchvision's ResNet-50 and Long-CLIP if their files are
named. Those that stay frozen, as published, encode each frame once; these features are kept.

--dagger_iterations N goes on in the simulator, N times: collect with the model, then train on all.
Round i is in OUTPUT_DIR/dagger/i; OUTPUT_DIR has the model before. VLN-CE: 10 rounds of 5,000
episodes and 4 epochs, p = 0.75.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import set_seed

from internnav_hf.arguments.training import NavTrainingArguments, option, run_recipe
from internnav_hf.camera import stored_cameras
from internnav_hf.data import VLNCollator, VLNDataset
from internnav_hf.data.formats.vln_n1.reader import groups_by_root
from internnav_hf.evaluation.open_loop.vln import evaluate_vln_open_loop
from internnav_hf.training.dagger_rounds import (
    DaggerArguments,
    check_camera,
    collect_round,
    dagger_stage,
)
from internnav_hf.training.trainer import NavTrainer, checkpoint_to_resume
from internnav_hf.training.vln import (
    StartArguments,
    VLNDataArguments,
    VLNDatasets,
    check_scans,
    open_dataset,
    start,
)

# epochs; documented warm-up share and weight decay
PUBLISHED = {
    "seq2seq": (80, 0.1, 1e-4),
    "seq2seq_plus": (55, 0.1, 1e-4),
    "cma": (80, 0.05, 1e-5),
    "cma_plus": (55, 0.05, 1e-5),
    "rdp": (50, 0.1, 1e-4),
}


@dataclass
class VLNTrainingArguments(NavTrainingArguments):
    """The published hyper-parameters."""

    model: Literal["seq2seq", "cma", "rdp", "seq2seq_plus", "cma_plus"] = option(
        "cma", "Model to train."
    )
    published: Literal["documented", "executed"] = option(
        "documented", "Warm-up and weight decay: as configured, or (executed) neither."
    )
    num_train_epochs: float | None = option(None, "Default: as published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    warmup_steps: float | None = option(None, "Default: as --published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    weight_decay: float | None = option(None, "Default: as --published.")  # pyright: ignore[reportIncompatibleVariableOverride]
    output_dir: str = option("outputs/train_vln", "Checkpoints, logs and the final model.")
    learning_rate: float = option(1e-4, "Default learning rate.")
    lr_scheduler_type: str = option("cosine", "Schedule of all learning rates.")
    per_device_train_batch_size: int = option(2, "Episodes per GPU and forward pass.")
    train_sampling_strategy: str = option("group_by_length", "Similarly long episodes, or random.")
    save_strategy: str = option("epoch", "When to write a checkpoint.")
    save_total_limit: int | None = option(8, "How many checkpoints to keep.")
    eval_strategy: str = option("epoch", "When to evaluate, if there is held-out data.")
    dataloader_num_workers: int = option(8, "Data-loading processes per GPU.")
    bf16: bool = option(False, "Compute in bfloat16.")

    def __post_init__(self):
        epochs, *documented = PUBLISHED[self.model]
        warmup, decay = documented if self.published == "documented" else (0.0, 0.0)
        self.num_train_epochs = epochs if self.num_train_epochs is None else self.num_train_epochs
        self.warmup_steps = warmup if self.warmup_steps is None else self.warmup_steps
        self.weight_decay = decay if self.weight_decay is None else self.weight_decay
        super().__post_init__()


def main(
    start_args: StartArguments,
    data_args: VLNDataArguments,
    dagger_args: DaggerArguments,
    args: VLNTrainingArguments,
):
    """Train, evaluate and save into `args.output_dir`; then run DAgger rounds, if any."""
    args.check_evaluation(data_args.eval_scans)
    roots, names = data_args.data_root, (data_args.scans, data_args.eval_scans)
    found = dict(zip(roots, groups_by_root(roots, *names, option="scans"), strict=True))
    scans = {root: chosen for root, (chosen, _) in found.items()}
    held_out_scans = {root: kept for root, (_, kept) in found.items() if kept}
    check_scans(args.model, scans, held_out_scans)
    checkpoint = checkpoint_to_resume(args)
    set_seed(args.seed)

    # ---------------------------------- model ---------------------------------
    model, processor = start(args.model, start_args, scans, data_args.cache_dir)

    # ---------------------------------- data ----------------------------------
    def opened(root: str, scans: Sequence[str] | None) -> VLNDataset:
        return open_dataset(root, scans, model, processor, data_args, args)

    datasets = [opened(root, chosen) for root, chosen in scans.items()]
    held_out = [opened(root, chosen) for root, chosen in held_out_scans.items()]
    processor.camera = stored_cameras(camera for part in datasets for camera in part.cameras)
    check_camera(dagger_args, processor.camera)
    collator = VLNCollator()

    # -------------------------------- training --------------------------------
    def open_loop(dataset: VLNDataset, **drawn: Any) -> dict[str, float]:
        return evaluate_vln_open_loop(model, dataset, collator, **drawn)

    def train(stage_args: VLNTrainingArguments, checkpoint: str | None) -> None:
        trainer = NavTrainer(
            model=model,
            args=stage_args,
            parents=start_args.parents,
            train_dataset=VLNDatasets(datasets),
            eval_dataset=VLNDatasets(held_out) if held_out else None,
            num_eval_samples=data_args.num_eval_samples,
            data_collator=collator,
            open_loop=open_loop,
        )
        # as `processing_class`, Trainer would write its tokens into the model's configuration
        trainer.saved_beside.append(processor.save_pretrained)
        trainer.run(resume_from_checkpoint=checkpoint)

    train(args, checkpoint)
    for iteration in range(1, dagger_args.dagger_iterations + 1):
        stage_args: Any = dagger_stage(args, dagger_args, iteration)
        checkpoint = checkpoint_to_resume(stage_args)
        root = collect_round(model, processor, dagger_args, stage_args, iteration)
        datasets.append(opened(root, None))
        train(stage_args, checkpoint)


if __name__ == "__main__":
    kinds = (StartArguments, VLNDataArguments, DaggerArguments, VLNTrainingArguments)
    run_recipe(main, kinds, __doc__)
