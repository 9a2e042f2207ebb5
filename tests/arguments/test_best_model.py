import pytest

from internnav_hf.arguments.best_model import direction_of
from internnav_hf.arguments.training import NavTrainingArguments

CPU = {"output_dir": "unused", "use_cpu": True, "report_to": "none"}


def arguments(**options):
    return NavTrainingArguments(**CPU | options)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected --metric_for_best_model as well"),
        ({"metric_for_best_model": "loss", "eval_strategy": "no"}, "eval_strategy is 'no'"),
    ],
)
def test_the_best_needs_a_metric_and_evaluations(options, message):
    args = arguments(save_strategy="best", **options)
    with pytest.raises(ValueError, match=f"^save_strategy: found 'best'.*{message}"):
        args.check_evaluation("r2r_val")
