"""What the recipe of GNM, ViNT and NoMaD alone does: published settings, with and without slips."""

import pytest

from internnav_hf.arguments.training import parse_arguments
from internnav_hf.models.gnm.config import GNMConfig, NoMaDConfig, ViNTConfig
from internnav_hf.training.image_goal import image_goal_model
from tests.recipes.image_goal import KINDS, recipe
from tests.tiny.gnm import tiny_image_goal


def parse(*arguments: str):
    return parse_arguments(KINDS, ["--data_root=d", "--use_cpu", *arguments])


def test_the_published_settings():
    for name, rate, batch, epochs, decay, beta2 in (
        ("gnm", 7e-4, 400, 30, 0.0, 0.98),
        ("vint", 5e-4, 256, 100, 0.01, 0.999),
        ("nomad", 1e-4, 256, 100, 0.01, 0.999),
    ):
        _, data_args, args = parse(f"--model={name}")
        assert (args.learning_rate, args.weight_decay) == (rate, decay)
        assert (args.per_device_train_batch_size, args.num_train_epochs) == (batch, epochs)
        assert (args.adam_beta1, args.adam_beta2) == (0.9, beta2)
        assert args.average_power == (0.75 if name == "nomad" else None)
        assert (data_args.longest_goal, data_args.end_slack, data_args.stride) == (20, [3], 1)
    assert [recipe.PUBLISHED[name][-1] for name in ("gnm", "vint", "nomad")] == [
        (2, 10),
        (0, 10),
        (3, 20),
    ]
    for config, weights in (
        (GNMConfig(), (0.5, 0.005)),
        (ViNTConfig(), (0.5, 0.005)),
        (NoMaDConfig(), (1 - 1e-4, 1e-4)),
    ):
        assert (config.action_loss_weight, config.distance_loss_weight) == weights


def test_rates_by_epoch_are_documented_or_executed():
    assert parse("--model=gnm")[-1].epoch_shares is None
    assert parse("--model=vint", "--lr_scheduler_type=linear")[-1].epoch_shares is None
    assert parse("--model=vint")[-1].epoch_shares(100)[:2] == [0.25, 0.5]
    executed = {m: parse(f"--model={m}", "--published=executed")[-1] for m in ("vint", "nomad")}
    assert executed["vint"].epoch_shares(100)[:3] == [0, 0.25, 0.5]
    assert executed["nomad"].epoch_shares(100)[:3] == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("before", "after"), [("documented", "executed"), ("executed", "documented")]
)
def test_the_loss_of_distances_is_as_told_whatever_the_checkpoint_had(tmp_path, before, after):
    masks = {"documented": "sample", "executed": "batch"}
    tiny_image_goal("nomad", distance_mask=masks[before]).save_pretrained(tmp_path)
    found = image_goal_model("nomad", str(tmp_path), None, after)
    assert found.config.distance_mask == masks[after]
