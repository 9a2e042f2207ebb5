"""A two-step training of a small action expert on random numbers, as a smoke test."""

import torch
from transformers import AutoModel, Dinov2Config

from internnav_hf.arguments.training import NavTrainingArguments
from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.models.nextdit.model import NextDiTActionExpert
from internnav_hf.training.trainer import NavTrainer


def train_two_steps(folder: str) -> dict:
    """Train into `folder`; return the device, seconds and loss of each step, and whether the model
    loaded from there equals the trained one.
    """
    torch.manual_seed(0)
    model, data = small_expert(), samples()
    args = NavTrainingArguments(
        output_dir=folder,
        max_steps=2,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        per_device_train_batch_size=len(data),
        dataloader_num_workers=0,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = NavTrainer(model=model, args=args, train_dataset=data)
    trainer.run()
    loaded = AutoModel.from_pretrained(folder).state_dict()
    trained = {name: weight.cpu() for name, weight in model.state_dict().items()}
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "device": str(args.device),
        "step_s": [len(data) / entry["samples_per_second"] for entry in steps],
        "losses": [entry["loss"] for entry in steps],
        "equal": all(torch.equal(loaded[name], weight) for name, weight in trained.items()),
    }


def small_expert() -> NextDiTActionExpert:
    """Return an expert with one layer of each kind and views of 28x28 pixels."""
    vision = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    heads = {f"num_{part}_heads": 2 for part in ("attention", "memory", "resampler")}
    layers = {f"num_{part}_layers": 1 for part in ("hidden", "memory", "resampler")}
    sizes = {"plan_hidden_size": 32, "image_size": 28, "hidden_size": 16, "condition_size": 32}
    return NextDiTActionExpert(NextDiTConfig(vision_config=vision, **heads, **layers, **sizes))


def samples(count: int = 8) -> list[dict]:
    """Return samples: a plan of 4 queries, two views and the trajectories from there."""
    batch = {
        "plan": torch.randn(count, 4, 32),
        "rgb": torch.rand(count, 2, 3, 28, 28),
        "actions": 0.1 * torch.randn(count, 2, 32, 3),
        "frame_mask": torch.ones(count, 2, dtype=torch.bool),
    }
    return [{name: values[i] for name, values in batch.items()} for i in range(count)]
