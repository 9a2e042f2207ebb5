import json
from pathlib import Path

import pytest
import torch

from internnav_hf.arguments.training import NavTrainingArguments
from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.dual_system.released import dual_system_keys
from internnav_hf.models.navdp.config import NavDPActionExpertConfig
from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.training.tuning import (
    DualTuningArguments,
    TuningArguments,
    add_lora,
    parameter_groups,
    parameter_table,
    set_trainable,
)
from tests.tiny.system2 import FAMILIES, tiny_system2
from tests.tiny.toy_expert import ToyExpertConfig
from tests.tiny.toy_model import toy_model

GOLDEN = Path(__file__).parents[1] / "golden"
EXPERT_CONFIGS = {"nextdit_async": NextDiTConfig, "navdp_async": NavDPActionExpertConfig}


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
    set_trainable(model, tuning, args)
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
    set_trainable(model, TuningArguments(**{f"tune_{part}": False}), arguments(tmp_path))
    names = [name for name, _ in model.named_parameters()]
    assert frozen(model) == {name for name in names if name.startswith(prefix)}


def test_a_frozen_vision_tower_leaves_its_merger(tmp_path):
    model = tiny_system2()
    set_trainable(model, TuningArguments(tune_vision_tower=False), arguments(tmp_path))
    assert all(name.startswith("vlm.model.visual.") for name in frozen(model))
    assert not any("merger" in name for name in frozen(model))
    assert frozen(model)


def test_a_rate_that_the_user_names_wins(tmp_path):
    args = arguments(tmp_path, module_learning_rates={"pixel_goal_head": 7.0, "vlm.model": 3.0})
    set_trainable(tiny_system2(), TuningArguments(heads_learning_rate=1.0), args)
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


# the dual system


def tiny_dual(**fields) -> DualSystemModel:
    return DualSystemModel.from_parts(tiny_system2(**fields), ToyExpertConfig())


def learning(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("system1", EXPERT_CONFIGS)
def test_what_learns_in_a_dual_system_is_what_is_published(tmp_path, system1):
    """Names of the released layout; those that no loss reaches are not built here."""
    with torch.device("meta"):
        expert = EXPERT_CONFIGS[system1](plan_hidden_size=64)
        model = DualSystemModel.from_parts(tiny_system2(), expert)
    set_trainable(model, DualTuningArguments(), arguments(tmp_path))
    shapes = json.loads((GOLDEN / f"keys_{system1}.json").read_text())["tensors"]
    published = json.loads((GOLDEN / "trainable_dual.json").read_text())[system1]
    tensors = {name: torch.empty(shapes[name][1], device="meta") for name in published}
    assert learning(model) == dual_system_keys(tensors, model.config).keys()


def test_parts_of_a_dual_system_have_rates_of_their_own(tmp_path):
    args = arguments(tmp_path, learning_rate=1e-3)
    tuning = DualTuningArguments(
        tune_language_model=True,
        tune_merger=True,
        tune_action_expert=False,
        language_model_learning_rate=1e-5,
        latent_queries_learning_rate=2e-3,
    )
    model = tiny_dual(tie_word_embeddings=False)
    set_trainable(model, tuning, args)
    groups = parameter_groups(model, 1e-3, args.module_learning_rates, 0.0)
    assert "other" not in {group["name"] for group in groups}
    assert {group["name"]: group["lr"] for group in groups if group["trainable"]} == {
        "system2.vlm.model.language_model": 1e-5,
        "system2.vlm.model.visual.merger": 1e-3,
        "latent_queries": 2e-3,
    }


def test_no_plan_depends_on_system2s_head_and_output_layer(tmp_path):
    model = tiny_dual(tie_word_embeddings=False)
    everything = DualTuningArguments(
        tune_vision_tower=True, tune_merger=True, tune_language_model=True
    )
    set_trainable(model, everything, arguments(tmp_path))
    assert {name.split(".")[1] for name in frozen(model)} == {"vlm", "pixel_goal_head"}
    assert {n for n in frozen(model) if ".vlm." in n} == {"system2.vlm.lm_head.weight"}


def test_lora_in_a_dual_system_keeps_queries_and_expert_as_they_were(tmp_path):
    model = tiny_dual()
    model.action_expert.from_view.requires_grad_(False)
    set_trainable(model, DualTuningArguments(), arguments(tmp_path))
    before = learning(model)
    adapted = add_lora(model, rank=2)
    plain = {name.removeprefix("base_model.model.") for name in learning(adapted)}
    lora = {name for name in plain if "lora_" in name}
    assert {name.replace(".modules_to_save.default.", ".") for name in plain - lora} == before
    assert lora
    assert all(name.startswith("system2.vlm.model.language_model.layers") for name in lora)
    rates = {"action_expert": 1e-2, "system2.vlm.model.language_model": 1e-4}
    groups = parameter_groups(adapted, 1e-3, rates, 0.0)
    assert {group["name"]: group["lr"] for group in groups if group["trainable"]} == {
        "other": 1e-3,  # the queries
        "action_expert": 1e-2,
        "system2.vlm.model.language_model": 1e-4,
    }
