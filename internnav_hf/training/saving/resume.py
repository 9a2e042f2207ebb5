"""Checks that a checkpoint is whole and that the run resuming from it is the same run.

`run.json` in a checkpoint has the options of the run, facts of data and model, and the sizes of the
checkpoint's files. Differences are shown as a table and refused, except for what a run may change
(`MAY_DIFFER`): its length, what is logged, saved and evaluated, locations of files, and use of the
machine.
"""

import hashlib
import json
import logging
import re
import zipfile
from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import ConcatDataset
from transformers import TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from internnav_hf.arguments.training import NavTrainingArguments
from internnav_hf.data import System2Dataset
from internnav_hf.data.tables import content_digest
from internnav_hf.data.tasks.common import EpisodeDataset
from internnav_hf.files import sampled_digest
from internnav_hf.publishing.origins import CARD
from internnav_hf.training.saving.moments import PROGRESS_FILE
from internnav_hf.weights.weight_files import read_header

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
MAY_DIFFER = re.compile(
    "output_dir|data_root|cache_dir|max_broken_fraction|max_steps|num_frames|num_train_epochs"
    "|run_name|project|resume_.*|logging_.*|log_.*|report_to|disable_tqdm|include_.*|debug|trackio_.*|do_.*"
    "|save_.*|load_best_model_at_end|metric_for_best_model|greater_is_better|prediction_loss_only"
    "|eval_.*|.*_eval_.*|num_eval_samples|num_trajectories|batch_eval_metrics|.*_full_eval"
    "|push_.*|hub_.*|license|dataloader_(num|pin|persistent|prefetch|multiprocessing|in_order).*"
    "|skip_memory_metrics"
    "|gradient_checkpointing.*|activation_checkpointing.*|torch_compile.*|torch_empty_cache_steps"
    "|use_cpu|tf32|ddp_.*|local_rank|deepspeed|fsdp.*|accelerator_config|parallelism_config"
    "|enable_jit_checkpoint|restore_callback_states_from_checkpoint|attn_implementation|dagger_.*"
)
# Sources of initial weights, which are in the checkpoint now: only the last name counts.
_SOURCES = (
    *("vlm", "system2", "model_config", "action_expert_config", "vision_encoder", "rgb_encoder"),
    *("depth_encoder", "text_encoder", "word_embeddings", "vocabulary", "tokenizer", "init_from"),
    "model",
)
_CONFIG_MAY_DIFFER = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "camera")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "global_step*", "pytorch_model_fsdp_0")
_BINARY = (".safetensors", ".bin", ".pt", ".pth")
_GOES_ON = "--resume_anyway true goes on all the same"
_MISSING = object()


# Finding a checkpoint


def checkpoints(output_dir: str | Path) -> list[Path]:
    """Return folders called `checkpoint-N`, newest first; not those a user has renamed."""
    found = (
        (int(name[1]), folder)
        for folder in Path(output_dir).glob("checkpoint-*")
        if (name := re.fullmatch(r"checkpoint-(\d+)", folder.name)) and folder.is_dir()
    )
    return [folder for _, folder in sorted(found, reverse=True)]


def what_is_left(output_dir: str | Path) -> str:
    """Return a sentence about the checkpoints there, for an error message."""
    names = [folder.name for folder in checkpoints(output_dir)]
    if not names:
        return "There is no checkpoint yet."
    return f"{names[0]} is whole: --resume_from_checkpoint auto goes on from there."


def last_complete_checkpoint(output_dir: str | Path) -> str | None:
    """Return the newest whole checkpoint; warn of the damage of each newer one."""
    for folder in checkpoints(output_dir):
        damage = next(damages(folder), None)
        if damage is None:
            return str(folder)
        logger.warning("%s was cut short: %s; the one before it is tried.", folder, damage)
    return None


def checkpoint_to_resume(args: NavTrainingArguments) -> str | None:
    """Return the checkpoint of `--resume_from_checkpoint`: true, false, auto (true if there is one)
    or a path.

    Raises ValueError if it is no checkpoint, or one of another run, and if `output_dir` has
    checkpoints and the option is not given.
    """
    choice = (args.resume_from_checkpoint or "").lower()
    if choice in ("", "false"):
        newest = last_complete_checkpoint(args.output_dir)
        if newest is not None:
            raise ValueError(
                f"{args.output_dir} has checkpoints, up to {Path(newest).name}. Go on from there "
                "with --resume_from_checkpoint true, choose another --output_dir, or delete it."
            )
        return None
    if choice in ("auto", "true"):
        folder = last_complete_checkpoint(args.output_dir) or _damaged_but_usable(args)
    else:
        folder = args.resume_from_checkpoint
        _check_is_checkpoint(Path(folder or ""), args.resume_anyway)
    if folder is None:
        if choice == "true":
            raise ValueError(f"{args.output_dir} has no complete checkpoint to resume from.")
        return None
    if choice in ("auto", "true"):
        args.passed_over = _passed_over(args.output_dir, folder)  # type: ignore[misc]
    _check_length(folder, args.max_steps)
    options = options_of(args)
    options.pop("module_learning_rates")  # the recipe will add to them
    check_same_run(folder, {"options": options}, args.resume_anyway)
    return folder


def _passed_over(output_dir: str, taken: str) -> str:
    """Return a sentence about the newest checkpoint if it is not the one `taken`."""
    newest = checkpoints(output_dir)[0]
    if newest == Path(taken):
        return ""
    damage = next(damages(newest), "it is not whole")
    return f"{newest} was passed over ({damage}); the run went on from {Path(taken).name}."


def _damaged_but_usable(args: NavTrainingArguments) -> str | None:
    """Return a checkpoint with weights if none is whole and that is allowed, else refuse it."""
    for folder in checkpoints(args.output_dir):
        if next(damages(folder, only_weights=True), None) is None:
            _check_is_checkpoint(folder, args.resume_anyway)
            return str(folder)
    return None


def _check_is_checkpoint(folder: Path, resume_anyway: bool) -> None:
    """Raise ValueError if a run cannot continue from `folder`."""
    option = f"--resume_from_checkpoint {folder}"
    if not folder.is_dir():
        raise ValueError(
            f"{option}: there is no such folder; expected true (the last one in --output_dir), "
            "auto (true if there is one), false, or the folder of a checkpoint."
        )
    inside = checkpoints(folder)
    hint = f" Did you mean {inside[0]}?" if inside else ""
    if not (folder / TRAINER_STATE_NAME).is_file():
        reason = f"it is no checkpoint, for it has no {TRAINER_STATE_NAME}"
        raise ValueError(f"{option}: {reason}.{hint}")
    damage = next(damages(folder, only_weights=resume_anyway), None)
    if damage is not None:
        usable = next(damages(folder, only_weights=True), None) is None
        advice = f"; {_GOES_ON}" if usable and _GOES_ON not in damage else ""
        raise ValueError(f"{option}: {damage}{advice}.{hint}")


def _check_length(folder: str, max_steps: int) -> None:
    state = json.loads(Path(folder, TRAINER_STATE_NAME).read_text())
    if 0 < max_steps < state["global_step"]:
        raise ValueError(
            f"--max_steps {max_steps}: {folder} was saved at step {state['global_step']}; give as "
            "many steps or more, or an older checkpoint."
        )


# Whether a checkpoint is whole


def damages(folder: Path, only_weights: bool = False) -> Iterator[str]:
    """Yield the damages of a checkpoint, worst first; nothing if it is whole.

    With `only_weights`, skip what else an exact resume needs.
    """
    yield from _state_damages(folder)
    weights = {path for pattern in _WEIGHTS for path in folder.glob(pattern)}
    if not weights:
        yield "it has no weights"
    record = _read_record(folder)
    sizes = record["files"] if record else {}  # an older checkpoint has none
    listed = {**sizes, **dict.fromkeys(_shards(folder))}
    for name, size in listed.items():
        if not only_weights or name.endswith(".safetensors"):
            yield from _size_damages(folder / name, size)
    for path in sorted(folder.glob("*")):
        is_state = path.suffix in (".pt", ".pth") or path.name in (RUN_FILE, PROGRESS_FILE)
        if path.is_file() and not (only_weights and is_state) and listed.get(path.name) != 0:
            yield from _content_damages(path)
    if not only_weights:
        if record is None and (folder / RUN_FILE).is_file():
            yield f"{RUN_FILE} is not what a run writes"
        for name, digest in (record["digests"] if record else {}).items():
            if (folder / name).is_file() and sampled_digest(folder / name) != digest:
                yield f"{name} is not the file that was saved there"
        yield from _missing_state(folder)


def _state_damages(folder: Path) -> Iterator[str]:
    path = folder / TRAINER_STATE_NAME
    if not path.is_file():
        yield f"it has no {TRAINER_STATE_NAME}"
        return
    try:
        state = json.loads(path.read_text())
        step = int(state["global_step"])
        _ = state["log_history"], int(state["max_steps"]), int(state["train_batch_size"])
    except (ValueError, KeyError, TypeError):
        yield f"{TRAINER_STATE_NAME} is not the JSON that Trainer writes"
        return
    named = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    if named and int(named[1]) != step:
        yield f"its {TRAINER_STATE_NAME} is of step {step}, so it was renamed"


def _read_record(folder: Path) -> dict[str, dict] | None:
    """Return `run.json` there; None if it is missing or malformed."""
    try:
        record = json.loads((folder / RUN_FILE).read_text())
        parts = {part: dict(record[part]) for part in ("options", "facts", "files")}
        return parts | {"digests": dict(record.get("digests", {}))}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _shards(folder: Path) -> list[str]:
    found = []
    for path in folder.glob("*.index.json"):
        try:
            found += set(json.loads(path.read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # `_content_damages` reports it
    return found


def _size_damages(path: Path, size: int | None) -> Iterator[str]:
    if not path.is_file():
        yield f"{path.name} is missing"
    elif size is not None and path.stat().st_size != size:
        yield f"{path.name} has {path.stat().st_size} bytes of {size}"


def _content_damages(path: Path) -> Iterator[str]:
    """Yield damages of a file's form, without reading all of it."""
    try:
        if path.stat().st_size == 0:
            yield f"{path.name} is empty"
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            read_header(path)
        elif path.suffix in (".pt", ".pth", ".bin"):
            with zipfile.ZipFile(path):
                pass
    except (ValueError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].removeprefix(f"{path}: ")
        yield f"{path.name} cannot be read ({reason[:100]})"


def _missing_state(folder: Path) -> Iterator[str]:
    """Yield missing files without which optimiser and learning rate would start anew."""
    names = {path.name for path in folder.iterdir()}
    if any(name.startswith("global_step") for name in names):  # DeepSpeed's folder holds them
        return
    optimizer = ("optimizer.pt", "optimizer.bin", "optimizer_0")
    missing = [] if names & set(optimizer) else [optimizer[0]]
    missing += [] if "scheduler.pt" in names else ["scheduler.pt"]
    missing += [] if any(name.startswith("rng_state") for name in names) else ["rng_state.pth"]
    if missing:
        yield (
            f"it has no {', '.join(missing)} (--save_only_model, deleted, or the folder of a final "
            f"model), so optimiser and learning rate would start anew; {_GOES_ON}"
        )


# Whether it is the same run


def options_of(args: TrainingArguments) -> dict[str, Any]:
    """Return all options that identify a run: of training, and of the recipe."""
    recipe = args.recipe_options if isinstance(args, NavTrainingArguments) else {}
    options = {**recipe, **args.to_dict()}
    for name in _SOURCES:
        if isinstance(options.get(name), str):
            options[name] = Path(options[name]).name
    kept = {name: value for name, value in options.items() if not MAY_DIFFER.fullmatch(name)}
    return json.loads(json.dumps(kept, default=str))


def describe_run(args: TrainingArguments, model: nn.Module, dataset: Any) -> dict[str, Any]:
    """Return `options_of`, and facts of data, model and machine."""
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    digest = hashlib.blake2b("\n".join(trained).encode(), digest_size=4)
    config = getattr(model, "config", None)
    fields = config.to_dict() if config is not None else {}
    facts = {
        "processes": args.world_size,
        "sharding": args.distributed_state.distributed_type.value,
        "trained parameters": f"{len(trained)}, {digest.hexdigest()}",
        **_data_facts(dataset),
        **{f"model: {name}": value for name, value in _flat(fields)},
    }
    return {"options": options_of(args), "facts": json.loads(json.dumps(facts, default=str))}


def _data_facts(dataset: Any) -> dict[str, Any]:
    parts = dataset.datasets if isinstance(dataset, ConcatDataset) else [dataset]
    facts: dict[str, Any] = {"samples": sum(len(part) for part in parts if isinstance(part, Sized))}
    tables = []
    for part in parts:
        if isinstance(part, EpisodeDataset):
            tables.append(part.episodes)
        if isinstance(part, System2Dataset):
            tables.append(part.samples)
            facts |= {"num_history": part.num_history, "history_size": list(part.history_size)}
    return facts | ({"data": content_digest(tables)} if tables else {})


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if name in _CONFIG_MAY_DIFFER:
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def warn_of_new_length(checkpoint: str, max_steps: int) -> None:
    """Warn of a new number of steps, on which a schedule may depend."""
    was = json.loads(Path(checkpoint, TRAINER_STATE_NAME).read_text()).get("max_steps")
    if was != max_steps:
        message = "The run ends at step %s, not at %s as before; its schedule is of as many steps."
        logger.warning(message, max_steps, was)


def write_record(folder: Path, run: dict[str, Any]) -> None:
    """Write `run.json` of a checkpoint after all other files; a card may be edited later."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CARD)
    files = {str(path.relative_to(folder)): path.stat().st_size for path in paths}
    digests = {n: sampled_digest(folder / n) for n in files if Path(n).suffix in _BINARY}
    record = {**run, "files": files, "digests": digests, "torch": torch.__version__}
    (folder / RUN_FILE).write_text(json.dumps(record, indent=1) + "\n")


def check_same_run(checkpoint: str, run: dict[str, Any], resume_anyway: bool) -> None:
    """Raise ValueError with a table of differences to the run that wrote `checkpoint`; with
    `resume_anyway`, warn. Only fields that both have are compared.
    """
    path = Path(checkpoint, RUN_FILE)
    if not path.is_file():
        logger.warning("%s has no %s, so it may be of another run.", checkpoint, RUN_FILE)
        return
    record = _read_record(path.parent)
    if record is None:
        problem = f"{path} is not what a run writes, so the checkpoint may be of another run."
        if not resume_anyway:
            raise ValueError(f"{problem} {_GOES_ON}.")
        logger.warning(problem)
        return
    rows = [
        (name, _shown(record[part][name]), _shown(value))
        for part in run
        for name, value in run[part].items()
        if record[part].get(name, _MISSING) not in (_MISSING, value)
    ]
    if not rows:
        return
    table = _table([("", "checkpoint", "now"), *rows])
    problem = f"{checkpoint} was saved by another run than the one asked for:\n{table}\n"
    if not resume_anyway:
        raise ValueError(f"{problem}Put back what differs; {_GOES_ON}.")
    logger.warning("%sIt goes on all the same, because of --resume_anyway.", problem)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _table(rows: list[tuple[str, str, str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {line.rstrip()}" for line in lines)
