import dataclasses
from types import SimpleNamespace

import pytest
from transformers import TrainingArguments

from internnav_hf.arguments.options import OPTIONS
from internnav_hf.arguments.training import NavTrainingArguments

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


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("report_to", ["none", "tensorboard"]),
        ("lr_scheduler_kwargs", "{bad"),
        ("accelerator_config", "{bad"),
        ("module_learning_rates", '{"a": 1'),
        ("optim_args", "momentum"),
    ],
)
def test_what_cannot_be_read_names_its_option(option, value):
    with pytest.raises(ValueError, match=f"^{option}: found .*expected"):
        arguments(optim="sgd", **{option: value})


def test_overflows_may_be_looked_for():
    assert arguments(debug="underflow_overflow").debug
    assert arguments(debug=["underflow_overflow"]).debug


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp8"])
def test_precision_is_the_recipes_and_not_the_launchers(monkeypatch, caplog, precision):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    assert arguments(bf16=False).mixed_precision == "no"
    assert f"--mixed_precision {precision}, which is not taken" in caplog.text


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


# what depends on model and data


def make(folder, **options):
    from internnav_hf.training.trainer import NavTrainer
    from tests.tiny.toy_model import ToyDataset, toy_model

    given = {name: options.pop(name) for name in ("compute_loss_func",) if name in options}
    defaults = {
        "max_steps": 2,
        "dataloader_num_workers": 0,
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    args = arguments(**defaults | {"output_dir": str(folder), "save_strategy": "no"} | options)
    return NavTrainer(toy_model(), args, train_dataset=ToyDataset(), **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compute_loss_func": len}, "compute_loss_func: ToyModel has losses of its own"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing: ToyModel cannot"),
        ({"train_sampling_strategy": "group_by_length"}, "take random"),
        ({"eval_on_start": True, "eval_steps": 1}, "nothing is held out"),
    ],
)
def test_what_model_or_data_cannot_follow_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **options)


@pytest.mark.parametrize("name", ["adamw_torch", "adafactor", "sgd", "adagrad", "rmsprop"])
def test_optimisers_keep_the_learning_rates_of_modules(tmp_path, name):
    run = make(tmp_path, optim=name, module_learning_rates={"trunk": 0.0}, learning_rate=0.01)
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    run.train()
    changed = {key for key, value in run.model.state_dict().items() if not value.equal(before[key])}
    assert "words.weight" in changed
    assert not any(key.startswith("trunk") for key in changed)


def test_the_order_follows_data_seed_and_strategy(tmp_path):
    losses = {}
    for seed, strategy in [(1, "random"), (2, "random"), (1, "sequential"), (2, "sequential")]:
        run = make(tmp_path, data_seed=seed, train_sampling_strategy=strategy)
        run.train()
        losses[seed, strategy] = [e["loss"] for e in run.state.log_history if "loss" in e]
    assert losses[1, "random"] != losses[2, "random"]
    assert losses[1, "sequential"] == losses[2, "sequential"]


@pytest.mark.parametrize(
    "options",
    [
        {"torch_empty_cache_steps": 1},
        {"skip_memory_metrics": False},
        {"logging_first_step": True},
        {"ddp_find_unused_parameters": True},
        {"debug": "underflow_overflow"},
        {"accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}}},
        {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "spawn"},
    ],
)
def test_options_that_change_no_loss(tmp_path, options):
    found = []
    for given in ({}, options):
        run = make(tmp_path, **given)
        run.train()
        found.append([e["loss"] for e in run.state.log_history if "loss" in e])
    assert found[0] == found[1]
