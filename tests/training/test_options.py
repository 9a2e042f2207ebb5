import dataclasses
from types import SimpleNamespace

import pytest
from transformers import TrainingArguments

from internnav_hf.arguments import NavTrainingArguments
from internnav_hf.training.options import OPTIONS, direction_of

CPU = {"output_dir": "unused", "use_cpu": True, "report_to": "none"}


def arguments(**options):
    return NavTrainingArguments(**CPU | options)


def test_every_option_of_transformers_is_in_the_list():
    """A new version of transformers shows its new options here: what do they do to our models?"""
    fields = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert fields - set(OPTIONS) == set()


def test_what_is_refused_has_a_reason():
    assert all(entry.why for entry in OPTIONS.values() if not entry.works)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("do_train", False),
        ("do_eval", False),
        ("do_predict", True),
        ("local_rank", 1),
        ("auto_find_batch_size", True),
        ("average_tokens_across_devices", False),
        ("train_sampling_strategy", "batch_rebalance"),
        ("length_column_name", "size"),
        ("dataloader_persistent_workers", True),
        ("dataloader_in_order", False),
        ("remove_unused_columns", True),
        ("label_smoothing_factor", 0.1),
        ("neftune_noise_alpha", 5.0),
        ("use_cache", True),
        ("use_liger_kernel", True),
        ("liger_kernel_config", {"rope": True}),
        ("optim", "galore_adamw"),
        ("optim", "lomo"),
        ("optim", "adamw_hf"),
        ("optim", "paged_adamw_8bit"),  # bitsandbytes is not installed here
        ("optim_args", "beta=1"),
        ("optim_target_modules", "all-linear"),
        ("bf16_full_eval", True),
        ("fp16_full_eval", True),
        ("torch_compile", True),
        ("torch_compile_backend", "inductor"),
        ("torch_compile_mode", "max-autotune"),
        ("fsdp", "full_shard"),
        ("fsdp_config", {"min_num_params": 1}),
        ("parallelism_config", SimpleNamespace()),
        ("logging_nan_inf_filter", True),
        ("include_num_input_tokens_seen", "all"),
        ("report_to", "wandb"),
        ("report_to", "tensorbord"),
        ("debug", "tpu_metrics_debug"),
        ("include_for_metrics", ["loss"]),
        ("batch_eval_metrics", True),
        ("accelerator_config", {"split_batches": True}),
        ("accelerator_config", {"dispatch_batches": True}),
        ("accelerator_config", '{"even_batches": false}'),
        ("deepspeed", "zero9.json"),
        ("metric_for_best_model", "mystery"),
        ("save_strategy", "sometimes"),
        ("lr_scheduler_type", "cosin"),
    ],
)
def test_an_option_that_would_do_something_else_is_refused_by_its_name(option, value):
    with pytest.raises(ValueError, match="^.+$") as raised:  # one line
        arguments(**{option: value})
    assert option in str(raised.value) or str(value) in str(raised.value)


def test_both_half_precisions_are_one_clear_error():
    with pytest.raises(ValueError, match="fp16, bf16: found both.*--bf16 false"):
        arguments(bf16=True, fp16=True)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp8"])
def test_precision_is_the_recipes_and_not_the_launchers(monkeypatch, caplog, precision):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    assert arguments(bf16=False).mixed_precision == "no"
    assert f"--mixed_precision {precision}, which is not taken" in caplog.text


# evaluation


@pytest.mark.parametrize(
    "options",
    [
        {"load_best_model_at_end": True, "save_steps": 5000},
        {"save_strategy": "best", "metric_for_best_model": "loss"},
        {"metric_for_best_model": "eval_loss"},
        {"eval_on_start": True},
        {"do_eval": True},
        {"lr_scheduler_type": "reduce_lr_on_plateau"},
    ],
)
def test_what_needs_evaluations_needs_held_out_data(options):
    args = arguments(**options)
    args.check_evaluation("r2r_val")
    with pytest.raises(ValueError, match=r"nothing is held out.*--eval_datasets"):
        args.check_evaluation(None)


def test_without_such_options_nothing_needs_to_be_held_out():
    arguments().check_evaluation(None)


@pytest.mark.parametrize(
    ("metric", "is_greater_better"),
    [
        ("loss", False),
        ("eval_pixel_goal_loss", False),
        ("pixel_error", False),
        ("eval_ade_m", False),
        ("heading_error_deg", False),
        ("eval_collision_share", False),
        ("action_accuracy", True),
        ("stop_recall", True),
        ("critic_rank_correlation", True),
    ],
)
def test_the_better_direction_of_a_metric_is_known(metric, is_greater_better):
    assert direction_of(metric, None) == is_greater_better
    assert arguments(metric_for_best_model=metric).greater_is_better == is_greater_better
    with pytest.raises(ValueError, match=f"of {metric} (more|less) is better"):
        direction_of(metric, not is_greater_better)


def test_the_direction_of_another_metric_must_be_given():
    with pytest.raises(ValueError, match="say whether more of it is better"):
        direction_of("mystery", None)
    assert direction_of("mystery", True) is True


# schedules


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("cosine", {"min_lr_rate": 0.1}, "cosine does not take 'min_lr_rate'; it takes num_cycles"),
        ("linear", {"power": 2}, "linear does not take 'power'"),
        ("polynomial", {"lr_end": 1.0}, "lr_scheduler_kwargs"),
        ("cosine_with_min_lr", {"min_lr_rate": 7}, "learning rate"),
        ("cosine_with_min_lr", {}, "lr_scheduler_kwargs"),
        ("cosine_with_min_lr", "min_lr=0", "expected a JSON mapping"),
        ("cosine", {"num_cycles": "many"}, "lr_scheduler_kwargs"),
        ("cosine", '{"num_cycles":', "Expecting value"),
    ],
)
def test_what_a_schedule_does_not_take_is_one_clear_error(kind, given, message):
    with pytest.raises(ValueError, match=message):
        arguments(lr_scheduler_type=kind, lr_scheduler_kwargs=given)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("linear", None),
        ("cosine", {"num_cycles": 0.5}),
        ("cosine_with_restarts", {"num_cycles": 3}),
        ("polynomial", {"lr_end": 1e-6, "power": 2}),
        ("constant", None),
        ("constant_with_warmup", None),
        ("inverse_sqrt", None),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
        ("warmup_stable_decay", {"num_decay_steps": 3}),
    ],
)
def test_schedules_work_with_what_they_take(kind, given):
    args = arguments(lr_scheduler_type=kind, lr_scheduler_kwargs=given, warmup_steps=2)
    assert (args.lr_scheduler_kwargs or None) == given


# the named experiment


def test_an_experiment_has_a_folder_of_its_name():
    args = arguments(output_dir="runs", name="first")
    assert (args.output_dir, args.run_name) == ("runs/first", "first")
    again = dataclasses.replace(args)
    assert again.output_dir == "runs/first"


@pytest.mark.parametrize("name", ["../other", "a/b", "", "."])
def test_the_name_of_an_experiment_is_that_of_a_folder(name):
    with pytest.raises(ValueError, match="name: found"):
        arguments(name=name)
