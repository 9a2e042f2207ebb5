"""A trainer of the toy model, and its log."""

from internnav_hf.training.trainer import NavTrainer, NavTrainingArguments
from tests.tiny.toy_model import ToyDataset, toy_model


def trainer(
    output_dir,
    model=None,
    dataset=None,
    open_loop=None,
    eval_dataset=None,
    drift=None,
    packing_length=None,
    **options,
):
    defaults = {
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "per_device_train_batch_size": 8,
        "learning_rate": 0.05,
        "max_steps": 3,
        "logging_steps": 1,
        "dataloader_num_workers": 0,
    }
    return NavTrainer(
        model=model or toy_model(),
        args=NavTrainingArguments(output_dir=str(output_dir), **defaults | options),
        train_dataset=dataset or ToyDataset(),
        eval_dataset=eval_dataset,
        open_loop=open_loop,
        drift=drift,
        packing_length=packing_length,
    )


def history(run: NavTrainer, key: str) -> list[float]:
    return [entry[key] for entry in run.state.log_history if key in entry]
