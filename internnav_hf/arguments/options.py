"""Status of each option of transformers' TrainingArguments here: works, refused with a reason, or
read by nothing.

An option that would silently do something else with these models is refused, and so is one that
would do nothing. `tests/arguments/test_options.py` holds the list against the installed version.
"""

import importlib.util
import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.training_args import OptimizerNames

from internnav_hf.field_files import nearest_path


class Standing(NamedTuple):
    """Status of an option: whether it works, else why it is refused; `refuses` tests a value."""

    works: bool
    why: str = ""
    refuses: Callable[[Any], bool] = lambda value: False


WORKS = Standing(True)


def _debugged(value: Any) -> set[str]:
    words = value.split() if isinstance(value, str) else value or ()
    return {str(getattr(word, "value", word)) for word in words}


def _refused(why: str, refuses: Callable[[Any], bool] = bool) -> Standing:
    return Standing(False, why, refuses)


def _partly(why: str, refuses: Callable[[Any], bool]) -> Standing:
    return Standing(True, why, refuses)


_UNREAD = "Nothing here reads it: leave it out."
_FULL_EVAL = (
    "It casts the model for good, and the final model would be saved rounded: leave it out, "
    "bf16 and fp16 evaluate by autocast already."
)
_FSDP = (
    "Names and learning rates of modules, resuming and saving were not tried with it: "
    "recipes/accelerate/ has DDP, ZeRO-2 and ZeRO-3."
)
_OPTIMISERS = {
    name: package
    for package, names in {
        None: "adamw_torch adamw_torch_fused adafactor sgd adagrad rmsprop",
        "torchao": "adamw_torch_4bit adamw_torch_8bit",
        "bitsandbytes": "adamw_bnb_8bit adamw_8bit ademamix ademamix_8bit lion_8bit lion_32bit"
        " paged_adamw_32bit paged_adamw_8bit paged_ademamix_32bit paged_ademamix_8bit"
        " paged_lion_32bit paged_lion_8bit rmsprop_bnb rmsprop_bnb_8bit rmsprop_bnb_32bit",
        "schedulefree": "schedule_free_radam schedule_free_adamw schedule_free_sgd",
        "grokadamw": "grokadamw",
        "optimi": "stable_adamw",
    }.items()
    for name in names.split()
}
"""Optimisers that take parameter groups, and the package of each if it is not torch."""
# Optimisers whose handler in transformers reads `optim_args`.
_TAKE_ARGUMENTS = {"sgd", "adagrad", "rmsprop", "grokadamw", "stable_adamw"} | {
    name
    for name in _OPTIMISERS
    if name.startswith(("ademamix", "paged_ademamix", "schedule_free", "adamw_torch_"))
    and name != "adamw_torch_fused"
}

_WORKING = """
    output_dir resume_from_checkpoint ignore_data_skip restore_callback_states_from_checkpoint
        num_train_epochs max_steps seed data_seed full_determinism run_name
    per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps
        dataloader_drop_last dataloader_num_workers dataloader_pin_memory
        dataloader_prefetch_factor dataloader_multiprocessing_context accelerator_config
    label_names
    optim optim_args learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps
        weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm
    bf16 fp16 tf32 activation_checkpointing activation_checkpointing_kwargs
        gradient_checkpointing gradient_checkpointing_kwargs torch_empty_cache_steps
    use_cpu ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph
        ddp_backend ddp_timeout deepspeed
    logging_strategy logging_steps logging_first_step log_on_each_node log_level
        log_level_replica disable_tqdm report_to project trackio_space_id trackio_bucket_id
        trackio_static_space_id skip_memory_metrics
    eval_strategy eval_steps eval_delay eval_on_start prediction_loss_only
        eval_do_concat_batches eval_use_gather_object eval_accumulation_steps
        load_best_model_at_end metric_for_best_model greater_is_better
    save_strategy save_steps save_total_limit save_only_model save_on_each_node
        enable_jit_checkpoint push_to_hub hub_token hub_private_repo hub_model_id hub_strategy
        hub_always_push hub_revision
"""
"""Options that do here what transformers documents."""
OPTIONS: dict[str, Standing] = {
    **dict.fromkeys(_WORKING.split(), WORKS),
    # the run
    "do_train": _refused(
        "A recipe trains. To evaluate a model: scripts/evaluate.py.", lambda value: value is False
    ),
    "do_eval": _partly(
        "To train without evaluations, leave the held-out data out.", lambda value: value is False
    ),
    "do_predict": _refused("Nothing here predicts: scripts/evaluate.py, or a policy's act()."),
    "local_rank": _refused("The launcher sets it.", lambda value: value not in (-1, None)),
    # batches
    "auto_find_batch_size": _refused(
        "It would train with other batches than the learning rate was chosen for, from a state "
        "that half a step has changed. What helps against too little memory is in docs/training.md."
    ),
    "average_tokens_across_devices": _refused(
        "Gradients would depend on how samples are shared out among processes: leave it true.",
        lambda value: value is False,
    ),
    "train_sampling_strategy": _partly(
        "batch_rebalance would read the whole data set for its lengths: take random, sequential "
        "or, with System2, the dual system and train_vln.py, group_by_length.",
        lambda value: value not in ("random", "sequential", "group_by_length"),
    ),
    "length_column_name": _refused(_UNREAD, lambda value: value not in (None, "length")),
    "dataloader_persistent_workers": _refused(
        "Such workers do not see that a new epoch has begun, and every epoch would draw the same."
    ),
    "dataloader_in_order": _refused(
        "The order of samples would depend on which worker is quickest: leave it true.",
        lambda value: value is False,
    ),
    "remove_unused_columns": _refused(
        "It would take away what the collators make batches of: leave it false."
    ),
    # loss
    "label_smoothing_factor": _refused(
        "transformers would take the labels away from the model and compare each token with the "
        "one that is read instead of the next; the other losses would be gone. Use 0."
    ),
    "neftune_noise_alpha": _refused("Noise in embeddings was not tried with these models."),
    "use_cache": _refused("The models choose for themselves when to keep keys and values."),
    "use_liger_kernel": _refused(
        "It would do nothing: liger knows models by their type, and finds no System2. Apply its "
        "kernels to `model.vlm` in your own recipe."
    ),
    "liger_kernel_config": _refused(_UNREAD, lambda value: value is not None),
    # optimiser
    "optim_target_modules": _refused(
        "Only optimisers read it that are refused, because they drop the learning rates of modules."
    ),
    # precision and memory
    "bf16_full_eval": _refused(_FULL_EVAL),
    "fp16_full_eval": _refused(_FULL_EVAL),
    "torch_compile": _refused(
        "Batches have another shape at nearly every step, and each would be compiled anew."
    ),
    "torch_compile_backend": _refused("torch_compile is refused.", lambda v: v is not None),
    "torch_compile_mode": _refused("torch_compile is refused.", lambda v: v is not None),
    # devices
    "fsdp": _refused(_FSDP),
    "fsdp_config": _refused(_FSDP),
    "parallelism_config": _refused(
        "Tensor, context and sequence parallelism were not tried with these models.",
        lambda value: value is not None,
    ),
    # logging
    "logging_nan_inf_filter": _refused(
        "It would hide a loss that is not finite in the log; training stops at one."
    ),
    "include_num_input_tokens_seen": _refused(
        "tokens_per_second is in the log already, and other models have no tokens.",
        lambda value: value not in (False, "no"),
    ),
    "debug": _partly(
        "Only underflow_overflow can be looked for here.",
        lambda value: bool(_debugged(value) - {"underflow_overflow"}),
    ),
    # evaluation
    "include_for_metrics": _partly(
        "Losses are means over different counts and are none of a batch: take inputs alone.",
        lambda value: bool(set(value or ()) - {"inputs"}),
    ),
    "batch_eval_metrics": _refused(
        "Evaluations share batches out so that each counts once, and none is the last of all "
        "processes. Take compute_metrics over everything."
    ),
}


def check_options(args: TrainingArguments) -> None:
    """Raise ValueError for the first option that would not have its documented effect; called
    before transformers reads any.
    """
    for name, standing in OPTIONS.items():
        value = getattr(args, name, None)
        if standing.refuses(value):
            raise ValueError(f"{name}: found {value!r}. {standing.why}")
    _check_mappings(args)
    if args.fp16 and args.bf16:
        raise ValueError("fp16, bf16: found both, expected one; with fp16 pass --bf16 false.")
    _check_optimiser(str(getattr(args.optim, "value", args.optim)), args.optim_args)
    _check_reports(args.report_to)
    _check_accelerator(args.accelerator_config)
    check_file("deepspeed", args.deepspeed)


def _check_mappings(args: TrainingArguments) -> None:
    for name in args._VALID_DICT_FIELDS:
        value = getattr(args, name)
        if not isinstance(value, str) or not value.lstrip().startswith("{"):
            continue
        try:
            json.loads(value)
        except ValueError as error:
            raise ValueError(
                f"{name}: found {value!r}, expected a JSON mapping: {error}."
            ) from error


def _check_optimiser(name: str, arguments: str | None) -> None:
    if name not in {kind.value for kind in OptimizerNames}:
        raise ValueError(f"optim: found {name!r}.{_did_you_mean(name, _OPTIMISERS)}")
    if name not in _OPTIMISERS:
        raise ValueError(
            f"optim: found {name!r}. It makes groups of parameters of its own, or needs other "
            "devices; learning rates of modules would be lost. Try adamw_torch_fused."
        )
    package = _OPTIMISERS[name]
    if package and importlib.util.find_spec(package) is None:
        raise ValueError(f"optim: {name} needs the package {package}, which is not installed.")
    if arguments and name not in _TAKE_ARGUMENTS:
        raise ValueError(f"optim_args: found {arguments!r}, but {name} reads none of it.")
    if arguments and any(part.count("=") != 1 for part in arguments.split(",")):
        raise ValueError(f"optim_args: found {arguments!r}, expected name=value,name=value.")


def _check_reports(report_to: str | list[str] | None) -> None:
    asked = report_to if isinstance(report_to, list) else [report_to or "none"]
    available = get_available_reporting_integrations()
    for name in asked:
        if name in ("all", "none") and len(asked) > 1:
            raise ValueError(f"report_to: found {asked}, expected {name!r} alone, or names.")
        if name not in ("all", "none", *available):
            raise ValueError(
                f"report_to: {name!r} is unknown or not installed; there is "
                f"{', '.join(['none', *available])}."
            )


def _check_accelerator(config: Any) -> None:
    """Refuse settings that change the samples of a step or need equally many in all processes."""
    given = config if isinstance(config, Mapping) else {}
    if isinstance(config, str):
        check_file("accelerator_config", config)
        text = config if config.lstrip().startswith("{") else Path(config).read_text("utf-8")
        given = json.loads(text)
    expected = {
        "split_batches": False,
        "dispatch_batches": False,
        "even_batches": True,
        "use_seedable_sampler": True,
    }
    for name, value in expected.items():
        if given.get(name) not in (None, value):
            raise ValueError(
                f"accelerator_config: found {name}={given[name]}, expected {value}: samples have "
                "images of different sizes and cannot be cut out of a batch, and every process "
                "takes as many steps."
            )


def check_fit(
    args: TrainingArguments, model: Any, dataset: Any, compute_loss_func: Any = None
) -> None:
    """Raise ValueError for options that `model` or the training set cannot follow."""
    kind = type(model).__name__
    if compute_loss_func is not None:
        raise ValueError(
            f"compute_loss_func: {kind} has losses of its own, which it would replace."
        )
    wants = args.gradient_checkpointing or getattr(args, "activation_checkpointing", False)
    if wants and not getattr(model, "supports_gradient_checkpointing", True):
        raise ValueError(f"gradient_checkpointing: {kind} cannot: leave it out.")
    if args.train_sampling_strategy == "group_by_length" and not hasattr(dataset, "lengths"):
        raise ValueError(
            "train_sampling_strategy: found 'group_by_length', but the training set does not say "
            "how long its samples are (`lengths`), and all would be read for it: take random."
        )


def check_file(name: str, path: Any) -> None:
    """Raise ValueError if the text `path`, which is no JSON itself, names no file."""
    if not isinstance(path, str) or path.lstrip().startswith("{") or Path(path).is_file():
        return
    raise ValueError(f"{name} {path}: there is no such file.{nearest_path(path)}")


def _did_you_mean(word: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else f" There is {', '.join(known)}."
