import pytest

from internnav_hf.arguments import NavTrainingArguments
from internnav_hf.tuning import (
    TuningArguments,
    add_lora,
    choose_what_learns,
    parameter_groups,
    parameter_table,
)
from tests.tiny import FAMILIES, tiny_system2
from tests.toy_model import toy_model


def arguments(tmp_path, **options):
    return NavTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **options)


def frozen(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def test_every_module_has_the_rate_of_its_longest_name():
    model = toy_model()
    model.tower.requires_grad_(False)
    groups = parameter_groups(model, 1e-3, {"trunk": 5e-4, "trunk.0": 1e-4, "tower": 1.0}, 0.1)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert rate[id(model.trunk[0].weight)] == rate[id(model.trunk[0].bias)] == 1e-4
    assert rate[id(model.goal_head.weight)] == 1e-3
    assert decay[id(model.goal_head.weight)] == 0.1
    assert decay[id(model.goal_head.bias)] == decay[id(model.norm.weight)] == 0
    assert groups[0]["lr"] == 1e-3, "the rate that is logged comes first"
    assert [group["name"] for group in groups if not group["trainable"]] == ["tower"]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_the_table_names_rate_decay_and_what_is_frozen():
    model = toy_model()
    model.tower.requires_grad_(False)
    table = parameter_table(parameter_groups(model, 1e-3, {"tower": 1.0, "trunk": 5e-4}, 0.1))
    lines = {tuple(line.split()) for line in table.splitlines()[1:]}
    assert ("tower", "128", "frozen") in lines
    assert ("trunk", "64", "0.0005", "0.1") in lines
    assert ("trunk", "8", "0.0005", "0") in lines
    assert table.splitlines()[0].split() == [
        "module",
        "parameters",
        "learning",
        "rate",
        "weight",
        "decay",
    ]


def test_a_name_that_matches_no_module_is_one_clear_error():
    with pytest.raises(ValueError, match="'goalhead', which ToyModel does not have.*'goal_head'"):
        parameter_groups(toy_model(), 1e-3, {"goalhead": 1e-4}, 0.0)
    with pytest.raises(ValueError, match="'goal'"):  # part of a name is not the name
        parameter_groups(toy_model(), 1e-3, {"goal": 1e-4}, 0.0)


def test_nothing_to_train_is_one_clear_error():
    with pytest.raises(ValueError, match="nothing to train"):
        parameter_groups(toy_model().requires_grad_(False), 1e-3, {}, 0.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_of_system2_belongs_to_a_part(tmp_path, family, tied):
    model = tiny_system2(family, tie_word_embeddings=tied, landmark_loss_weight=1.0)
    args = arguments(tmp_path, learning_rate=1e-3)
    tuning = TuningArguments(vision_tower_learning_rate=1e-4, merger_learning_rate=2e-4)
    choose_what_learns(model, tuning, args)
    groups = parameter_groups(model, 1e-3, args.module_learning_rates, 0.0)
    rates = {group["name"]: group["lr"] for group in groups}
    assert "other" not in rates
    assert rates["vlm.model.visual"] == 1e-4
    assert rates["vlm.model.visual.merger"] == 2e-4
    assert rates["vlm.model.language_model"] == rates["pixel_goal_head"] == 1e-3
    assert ("vlm.lm_head" in rates) is not tied
    if family == "qwen3_vl":
        assert rates["vlm.model.visual.deepstack_merger_list"] == 2e-4


@pytest.mark.parametrize(
    ("part", "prefix"),
    [
        ("merger", "vlm.model.visual.merger."),
        ("language_model", "vlm.model.language_model."),
        ("heads", "pixel_goal_head."),
    ],
)
def test_a_part_that_is_not_tuned_is_frozen_and_no_other(tmp_path, part, prefix):
    model = tiny_system2()
    choose_what_learns(model, TuningArguments(**{f"tune_{part}": False}), arguments(tmp_path))
    names = [name for name, _ in model.named_parameters()]
    assert frozen(model) == {name for name in names if name.startswith(prefix)}


def test_a_frozen_vision_tower_leaves_its_merger(tmp_path):
    model = tiny_system2()
    choose_what_learns(model, TuningArguments(tune_vision_tower=False), arguments(tmp_path))
    assert all(name.startswith("vlm.model.visual.") for name in frozen(model))
    assert not any("merger" in name for name in frozen(model))
    assert frozen(model)


def test_a_rate_that_the_user_names_wins(tmp_path):
    args = arguments(tmp_path, module_learning_rates={"pixel_goal_head": 7.0, "vlm.model": 3.0})
    choose_what_learns(tiny_system2(), TuningArguments(heads_learning_rate=1.0), args)
    assert args.module_learning_rates["pixel_goal_head"] == 7.0
    assert args.module_learning_rates["vlm.model"] == 3.0


def test_lora_trains_adapters_and_heads_only():
    model = add_lora(tiny_system2(), rank=2)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "pixel_goal_head" in name for name in learns)
    assert any("language_model.layers.1.mlp.up_proj.lora_A" in name for name in learns)
    assert any("pixel_goal_head" in name for name in learns)
    assert not any("visual" in name for name in learns)
    groups = parameter_groups(model, 1e-3, {"vlm.model.language_model": 1e-4}, 0.0)
    assert {g["name"]: g["lr"] for g in groups if g["trainable"]} == {
        "other": 1e-3,
        "vlm.model.language_model": 1e-4,
    }
