from dataclasses import dataclass

import pytest

from internnav_hf.arguments.ranges import check_numbers
from internnav_hf.arguments.training import NavTrainingArguments, option


@dataclass
class Given:
    share: float = option(0.5, "", low=0, high=1)
    scale: float = option(1.0, "", above=0)
    size: list[int] | None = option(None, "", low=1)
    any_number: float = 0.0
    edge: str = option("edge", "", choices=("edge", "none"))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("share", 1.5, "0 to 1"),
        ("share", float("nan"), "0 to 1"),
        ("scale", 0.0, "more than 0"),
        ("scale", float("inf"), "more than 0"),
        ("size", [384, 0], "1 or more"),
        ("any_number", float("nan"), "a finite number"),
        ("edge", "corner", "'edge' or 'none'"),
    ],
)
def test_a_number_outside_its_range_names_its_field(field, value, expected):
    with pytest.raises(ValueError, match=f"^{field}: found .*, expected {expected}"):
        check_numbers(Given(**{field: value}))


def test_numbers_in_their_ranges_pass():
    check_numbers(Given(share=1, scale=0.1, size=[384, 384], any_number=-5.0, edge="none"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", -1e-5),
        ("learning_rate", float("nan")),
        ("per_device_train_batch_size", 0),
        ("per_device_eval_batch_size", -1),
        ("gradient_accumulation_steps", 0),
        ("num_train_epochs", 0.0),
        ("max_steps", 0),
        ("max_steps", -2),
        ("warmup_steps", 1.5),
        ("warmup_steps", -1),
        ("weight_decay", -0.1),
        ("adam_beta1", 1.0),
        ("adam_epsilon", 0.0),
        ("max_grad_norm", -1.0),
        ("max_grad_norm", float("inf")),
        ("logging_steps", 0),
        ("save_steps", -5),
        ("eval_steps", 2.5),
        ("save_total_limit", 0),
        ("seed", -1),
        ("dataloader_num_workers", -1),
        ("lr_scheduler_steps", 0),
    ],
)
def test_numbers_that_no_training_can_have_are_refused(field, value):
    with pytest.raises(ValueError, match=f"^{field}: found"):
        NavTrainingArguments(output_dir="unused", use_cpu=True, **{field: value})


@pytest.mark.parametrize("rate", ["fast", -1, float("nan"), None, True, [1]])
def test_rates_of_modules_are_numbers(rate):
    with pytest.raises(ValueError, match=r"^module_learning_rates: found .* for 'head', expected"):
        NavTrainingArguments(output_dir="x", use_cpu=True, module_learning_rates={"head": rate})
