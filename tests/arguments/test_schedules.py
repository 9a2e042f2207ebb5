import pytest

from internnav_hf.arguments.training import NavTrainingArguments

CPU = {"output_dir": "unused", "use_cpu": True, "report_to": "none"}


def arguments(**options):
    return NavTrainingArguments(**CPU | options)


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
