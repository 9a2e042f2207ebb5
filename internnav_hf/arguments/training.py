"""Training arguments of a run, read from a YAML file and the command line on top of it."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from transformers import SchedulerType, TrainingArguments

from internnav_hf.arguments.best_model import check_evaluation, direction_of
from internnav_hf.arguments.command import hide_secrets
from internnav_hf.arguments.options import check_options
from internnav_hf.arguments.parsing import read_arguments
from internnav_hf.arguments.ranges import check_numbers, check_rates, option
from internnav_hf.arguments.schedules import check_schedule
from internnav_hf.field_files import read_fields
from internnav_hf.files import storage_error
from internnav_hf.publishing.hiding import hide_in_logs
from internnav_hf.publishing.licences import parse_licence
from internnav_hf.signals import ending_on_signals, follow_launcher

__all__ = ["NavTrainingArguments", "option", "parse_arguments", "read_fields", "run_recipe"]

logger = logging.getLogger(__name__)

_LAUNCHED_PRECISION = "ACCELERATE_MIXED_PRECISION"


@dataclass
class NavTrainingArguments(TrainingArguments):
    """TrainingArguments with this package's defaults; without a GPU: the CPU and float32."""

    recipe_options: ClassVar[dict[str, Any]] = {}
    """Values of the recipe's other dataclasses; `parse_arguments` sets it."""
    passed_over: ClassVar[str] = ""
    """Damage of a newer checkpoint than the one resumed, from `checkpoint_to_resume`."""
    _VALID_DICT_FIELDS = (*TrainingArguments._VALID_DICT_FIELDS, "module_learning_rates")

    module_learning_rates: dict | str | None = field(
        default=None,
        metadata={
            "help": "Module name -> learning rate (JSON, or a mapping in a YAML file). A parameter "
            "takes the rate of the longest name that its own starts with, else learning_rate."
        },
    )
    name: str | None = option(
        None, "Name of the experiment; checkpoints, logs and model go to OUTPUT_DIR/NAME."
    )
    output_dir: str = option("outputs/train", "Checkpoints, logs and the final model.")
    do_train: bool = option(True, "Leave it true: a recipe trains.")
    do_eval: bool | None = field(
        default=None,
        metadata={"help": "True: insist on held-out data.", "nargs": "?", "const": True},
    )
    resume_from_checkpoint: str | None = option(
        None, "A folder, true (the last checkpoint in output_dir), or auto (true if there is one)."
    )
    resume_anyway: bool = option(
        False, "Also continue from a checkpoint of another run, or one without optimiser."
    )
    bf16: bool = option(True, "Compute in bfloat16; on the CPU always in float32.")
    dataloader_num_workers: int = option(4, "Data-loading processes per GPU.")
    remove_unused_columns: bool = option(False, "Keep it off: collators return what models take.")
    # HfArgumentParser wants str in second place
    report_to: None | str | list[str] = field(  # noqa: RUF036
        default="tensorboard", metadata={"help": "tensorboard, wandb, none, ..."}
    )
    lr_scheduler_steps: int | None = option(
        None,
        "Length of a linear or polynomial schedule, constant after it; default: all steps.",
        low=1,
    )
    logging_steps: float = option(10, "Optimisation steps between two lines of the log.")
    logging_nan_inf_filter: bool = option(
        False, "Keep it off: NavTrainer stops at NaN or infinity."
    )
    save_steps: float = option(5000, "Optimisation steps between checkpoints.")
    save_total_limit: int | None = option(5, "How many checkpoints to keep.")
    eval_strategy: str = option("steps", "When to evaluate, if there is held-out data.")
    eval_steps: float | None = option(5000, "Optimisation steps between evaluations.")

    license: str | None = option(
        None, "License of the model, by its Hub name; default: derived from base and data."
    )
    push_adapter: bool = option(False, "Push the LoRA adapter instead of the merged model.")

    decays_vectors = False
    """Whether norms and biases decay, too; no option, for recipes whose publications do that."""

    @property
    def rates_by_module(self) -> dict[str, float]:
        """`module_learning_rates` as a mapping, empty if there are none."""
        rates = self.module_learning_rates or {}
        if isinstance(rates, str):
            raise ValueError(f"module_learning_rates: expected a JSON mapping, found {rates!r}.")
        check_rates(rates)
        return rates

    @property
    def weights_dtype(self) -> torch.dtype:
        """Dtype to load a model in: float32 unless DeepSpeed also keeps float32 weights."""
        return torch.bfloat16 if self.bf16 and self.deepspeed_plugin else torch.float32

    def check_evaluation(self, held_out: Any) -> None:
        """Raise ValueError if options need evaluations and nothing is `held_out`."""
        check_evaluation(self, self.do_eval, held_out)

    def __post_init__(self):
        check_numbers(self)
        check_options(self)
        self.report_to = self.report_to or "none"  # a YAML file's null
        self._take_name()
        _check_folder(Path(self.output_dir))
        if self.enable_jit_checkpoint:
            logger.info("enable_jit_checkpoint: signals save a checkpoint with and without it.")
            self.enable_jit_checkpoint = False
        self.greater_is_better = direction_of(self.metric_for_best_model, self.greater_is_better)
        if self.license is not None:
            parse_licence(self.license)
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
        _take_precision("bf16" if self.bf16 else "fp16" if self.fp16 else "no")
        self._let_transformers_read()
        _ = self.rates_by_module
        check_schedule(self)

    def _let_transformers_read(self) -> None:
        """Report what transformers refuses in one line too."""
        with warnings.catch_warnings():
            # its new name, activation_checkpointing, is unknown to transformers 5.17
            warnings.filterwarnings("ignore", "`gradient_checkpointing", FutureWarning)
            try:
                super().__post_init__()
            except (ValueError, TypeError) as error:
                raise ValueError(" ".join(str(error).split())) from error
        # batches cannot be cut: a sample has as many pixels as its images
        self.accelerator_config.dispatch_batches = False

    def _take_name(self) -> None:
        if self.name is None:
            return
        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            raise ValueError(f"name: found {self.name!r}, expected the name of a folder.")
        self.output_dir = str(Path(self.output_dir, self.name))
        self.run_name = self.run_name or self.name
        self.name = None  # applied: a copy of these arguments has the same folder


def run_recipe(main: Callable[..., None], kinds: Iterable[type], description: str | None) -> None:
    """Call `main` with the arguments of the command line. A ValueError of this package or the
    recipe, or a disk error, ends the program in one line; a ValueError from elsewhere comes with
    its traceback. A signal ends it at once if no training runs that could be saved.
    """
    name = Path(sys.argv[0]).stem
    follow_launcher()
    try:
        with ending_on_signals(name, "start it with --resume_from_checkpoint auto to go on."):
            parsed = parse_arguments(kinds, sys.argv[1:], description)
            sys.argv[1:] = hide_secrets(sys.argv[1:])  # trackers publish them
            rank = int(os.environ.get("RANK", "0"))
            logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR)
            hide_in_logs()
            main(*parsed)
            if rank == 0:
                _tell_passed_over(name, parsed)
        PartialState().destroy_process_group()  # or its threads may abort the process at its end
    except ValueError as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
        ours = (Path(__file__).resolve().parents[1], Path(sys.argv[0]).resolve().parent)
        if not any(raised_in.is_relative_to(folder) for folder in ours):
            raise
        sys.exit(f"{name}: {error}")
    except (OSError, RuntimeError, SafetensorError) as error:
        told = storage_error(error)
        if told is None:
            raise
        sys.exit(f"{name}: {told}")


def _tell_passed_over(name: str, parsed: Sequence[Any]) -> None:
    """Repeat the warning as the last line, since it is at the head of a long log."""
    for arguments in parsed:
        if isinstance(arguments, NavTrainingArguments) and arguments.passed_over:
            sys.stderr.write(f"{name}: {arguments.passed_over}\n")


def parse_arguments(
    dataclass_types: Iterable[type], arguments: Sequence[str], description: str | None = None
) -> tuple:
    """`read_arguments`, for a recipe: its other options are recorded for its checkpoints."""
    parsed = read_arguments(dataclass_types, arguments, description)
    for training in parsed:
        if isinstance(training, NavTrainingArguments):
            others = [vars(other) for other in parsed if other is not training]
            training.recipe_options = {n: v for fields in others for n, v in fields.items()}  # type: ignore[misc]
    return parsed


def _check_folder(path: Path) -> None:
    there = next((part for part in (path, *path.parents) if part.exists()), None)
    if there is not None and not there.is_dir():
        raise ValueError(f"output_dir: found {path}, but {there} is a file; expected a folder.")


def _check_schedule(num_steps: int | None, kind: str) -> None:
    """Refuse other schedules, which would rise again after their end."""
    if num_steps is not None and kind not in ("linear", "polynomial"):
        raise ValueError(
            f"lr_scheduler_steps: found lr_scheduler_type {kind!r}, expected linear or polynomial."
        )


def _take_precision(precision: str) -> None:
    """Set the recipe's precision: transformers would use the launcher's by default."""
    launched = os.environ.pop(_LAUNCHED_PRECISION, "no")
    if launched not in ("no", precision):
        told = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}[precision]
        logger.warning(
            "accelerate was launched with --mixed_precision %s, which is not taken: precision is "
            "the recipe's (--bf16, --fp16), here %s.",
            launched,
            told,
        )


def _keep_deepspeed_from_compiling() -> None:
    """Keep DeepSpeed on the CPU from compiling a kernel for minutes; gloo does the same."""
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
