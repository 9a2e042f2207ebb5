"""How a run is described: training arguments, a YAML file, and the command line on top of it."""

import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from transformers import HfArgumentParser, SchedulerType, TrainingArguments

from internnav_hf.command_line import HelpFormatter, OneLineErrors

logger = logging.getLogger(__name__)


def option(default: Any, text: str) -> Any:
    """A field of a dataclass with its help text; a list is copied."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass
class NavTrainingArguments(TrainingArguments):
    """TrainingArguments with the defaults of the house; without a GPU: the CPU and float32."""

    _VALID_DICT_FIELDS = (*TrainingArguments._VALID_DICT_FIELDS, "module_learning_rates")

    module_learning_rates: dict | str | None = field(
        default=None,
        metadata={
            "help": "Module name -> learning rate (JSON, or a mapping in a YAML file). A parameter "
            "takes the rate of the longest name that its own starts with, else learning_rate."
        },
    )
    output_dir: str = option("outputs/train", "Checkpoints, logs and the final model.")
    resume_from_checkpoint: str | None = option(
        None, "A folder, true (the last checkpoint in output_dir), or auto (true if there is one)."
    )
    bf16: bool = option(True, "Compute in bfloat16; on the CPU it is float32 always.")
    dataloader_num_workers: int = option(4, "Processes that prepare samples, for each GPU.")
    remove_unused_columns: bool = option(False, "Keep it off: collators make what models take.")
    # HfArgumentParser wants str in second place
    report_to: None | str | list[str] = field(  # noqa: RUF036
        default="tensorboard", metadata={"help": "tensorboard, wandb, none, ..."}
    )
    lr_scheduler_steps: int | None = option(
        None, "Steps that a linear or polynomial schedule takes, then it stays; default: all."
    )
    logging_steps: float = option(10, "Optimisation steps between two lines of the log.")
    logging_nan_inf_filter: bool = option(False, "Keep it off: NavTrainer stops at such a loss.")
    save_steps: float = option(5000, "Optimisation steps between checkpoints.")
    save_total_limit: int | None = option(5, "How many checkpoints to keep.")
    eval_strategy: str = option("steps", "When to evaluate, if there is something to evaluate on.")
    eval_steps: float | None = option(5000, "Optimisation steps between evaluations.")

    @property
    def rates_by_module(self) -> dict[str, float]:
        """`module_learning_rates` as a mapping, empty if there are none."""
        rates = self.module_learning_rates or {}
        if isinstance(rates, str):
            raise ValueError(f"module_learning_rates: expected a JSON mapping, found {rates!r}.")
        return rates

    @property
    def weights_dtype(self) -> torch.dtype:
        """What to load a model in: float32 unless DeepSpeed keeps float32 weights besides."""
        return torch.bfloat16 if self.bf16 and self.deepspeed_plugin else torch.float32

    def __post_init__(self):
        if self.use_liger_kernel:
            raise ValueError(
                "use_liger_kernel would do nothing: liger knows models by their type, and finds no "
                "System2. Apply its kernels to `model.vlm` in your own recipe."
            )
        _check_schedule(self.lr_scheduler_steps, SchedulerType(self.lr_scheduler_type).value)
        if not self.use_cpu and not torch.accelerator.is_available():
            logger.warning("No GPU is visible: training on the CPU.")
            self.use_cpu = True
        if self.use_cpu:
            if self.bf16 or self.fp16:
                logger.info("On the CPU half precision is slower than float32: float32 it is.")
            self.bf16 = self.fp16 = False
            _keep_deepspeed_from_compiling()
        else:
            _check_visible_devices()
        with warnings.catch_warnings():
            # its new name, activation_checkpointing, is unknown to transformers 5.17
            warnings.filterwarnings("ignore", "`gradient_checkpointing", FutureWarning)
            super().__post_init__()


def run_recipe(main: Callable[..., None], kinds: Iterable[type], description: str | None) -> None:
    """Call `main` with what the command line says. A ValueError that this package or the recipe
    raises ends the program in one line; one from elsewhere comes with its traceback.
    """
    try:
        parsed = parse_arguments(kinds, sys.argv[1:], description)
        rank = int(os.environ.get("RANK", "0"))
        logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR)
        main(*parsed)
        PartialState().destroy_process_group()  # or its threads may abort the process at its end
    except ValueError as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
        ours = (Path(__file__).resolve().parent, Path(sys.argv[0]).resolve().parent)
        if not any(raised_in.is_relative_to(folder) for folder in ours):
            raise
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")


class _Parser(OneLineErrors, HfArgumentParser):
    """Of dataclasses."""


def parse_arguments(
    dataclass_types: Iterable[type], arguments: Sequence[str], description: str | None = None
) -> tuple:
    """One instance of each dataclass from `arguments`: a YAML file, if any, then options on top.

    A field that none of them has is a ValueError that names the file and the nearest field.
    """
    parser = _Parser(
        dataclass_types,  # type: ignore[arg-type]  (any dataclasses)
        description=description,
        allow_abbrev=False,
        formatter_class=HelpFormatter,
    )
    options = list(arguments)
    if {"-h", "--help"} & set(options):
        parser.parse_args(["--help"])
    for word in options:
        if word.startswith("--") and word.split("=")[0] not in parser._option_string_actions:
            raise ValueError(f"Command line: {_unknown_field(word.lstrip('-'), parser)}")
    if options and options[0].endswith((".yaml", ".yml")):
        path = options.pop(0)
        options = _options_of(path, parser) + options
    *parsed, unknown = parser.parse_args_into_dataclasses(
        options, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        raise ValueError(f"Command line: {_unknown_field(unknown[0].lstrip('-'), parser)}")
    return tuple(parsed)


def read_fields(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; ValueError if there is none."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such file.")
    fields = yaml.safe_load(Path(path).read_text()) or {}
    if not isinstance(fields, dict):
        found = type(fields).__name__
        raise ValueError(f"{path}: expected one `field: value` a line, found {found}.")
    return fields


def _options_of(path: str, parser: HfArgumentParser) -> list[str]:
    """The fields of a YAML file as command line options, so that both get the same checks."""
    fields = read_fields(path)
    options = []
    for name, value in fields.items():
        if name not in _field_names(parser):
            raise ValueError(f"{path}: {_unknown_field(str(name), parser)}")
        if isinstance(value, list):
            options += [f"--{name}", *map(str, value)]
        elif value is not None:
            options.append(f"--{name}={json.dumps(value) if isinstance(value, dict) else value}")
    return options


def _field_names(parser: HfArgumentParser) -> set[str]:
    return {action.dest for action in parser._actions} - {"help"}


def _unknown_field(name: str, parser: HfArgumentParser) -> str:
    name = name.split("=")[0]
    close = get_close_matches(name.replace("-", "_"), _field_names(parser), n=1)
    return f"unknown field {name!r}" + (f"; did you mean {close[0]!r}?" if close else ".")


def _check_schedule(num_steps: int | None, kind: str) -> None:
    """Other schedules would rise again after their end."""
    if num_steps is None:
        return
    if num_steps < 1:
        raise ValueError(f"lr_scheduler_steps: found {num_steps}, expected 1 or more.")
    if kind not in ("linear", "polynomial"):
        raise ValueError(
            f"lr_scheduler_steps: found lr_scheduler_type {kind!r}, expected linear or polynomial."
        )


def _keep_deepspeed_from_compiling() -> None:
    """On the CPU, DeepSpeed would compile a kernel for minutes to do what gloo does as well."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _check_visible_devices() -> None:
    visible = torch.accelerator.device_count()
    launched = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if launched > visible:
        raise ValueError(
            f"{launched} processes were launched here, but {visible} GPU(s) are visible: pass "
            f"--num_processes {visible} to accelerate launch, or look at CUDA_VISIBLE_DEVICES."
        )
    if os.environ.get("WORLD_SIZE", "1") == "1" and visible > 1:
        raise ValueError(
            f"{visible} GPUs are visible to one process. Use all of them with accelerate launch "
            "--config_file recipes/accelerate/ddp.yaml, or show it one: CUDA_VISIBLE_DEVICES=0."
        )
