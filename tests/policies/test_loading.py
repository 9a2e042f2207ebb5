"""`load_policy` opens what it is given, or says in one line why not."""

import json

import pytest
import torch

import internnav_hf
from internnav_hf.catalog import FAMILIES
from internnav_hf.policies import (
    DualSystemPolicy,
    RDPPolicy,
    System2Policy,
    VLNPolicy,
    load_policy,
    policy_settings,
)
from internnav_hf.policies.loading import family_of_checkpoint
from tests.policies.cases import CASES, drives_to_goals
from tests.tiny.navdp import tiny_navdp
from tests.tiny.system2 import tiny_processor, tiny_system2


@pytest.mark.parametrize("name", CASES)
def test_every_policy_opens_from_its_folder(tmp_path, name):
    policy = CASES[name].make({"height_m": 0.5})
    policy.model.save_pretrained(tmp_path)
    if not drives_to_goals(policy):
        policy.processor.save_pretrained(tmp_path)
    opened = load_policy(tmp_path, strict_camera=True)
    assert type(opened) is type(policy)
    assert type(opened.model) is type(policy.model)
    assert opened.cameras == policy.cameras
    assert internnav_hf.load_policy is load_policy
    with pytest.raises(ValueError, match=rf"{type(policy).__name__} has no setting 'num_sampels'"):
        load_policy(tmp_path, num_sampels=3)


def test_every_family_that_drives_a_robot_is_among_the_cases():
    driven = {family.load("config") for family in FAMILIES if family.benchmark}
    assert driven == {type(case.make().model.config) for case in CASES.values()}
    policies = {family.load("policy") for family in FAMILIES if family.benchmark}
    assert policies == {type(case.make()) for case in CASES.values()}


def test_settings_are_those_of_the_policy(tmp_path):
    assert policy_settings(VLNPolicy) == ("camera", "strict_camera")
    assert "seed" in policy_settings(RDPPolicy)
    assert "num_samples" in policy_settings(DualSystemPolicy)
    assert policy_settings(System2Policy)[0] == "answer_with"
    tiny_system2().save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    assert load_policy(tmp_path, answer_with="text", max_new_tokens=9).max_new_tokens == 9
    with pytest.raises(ValueError, match=r"no setting 'answer_wth'.* Did you mean 'answer_with'\?"):
        load_policy(tmp_path, answer_wth="text")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"model_type": "qwen2_5_vl"}, "System2"),
        ({"model_type": "qwen2_vl"}, "System2"),
        ({"model_type": "qwen3_vl_moe"}, "System2"),
        ({"model_type": "qwen2_5_vl", "system1": "navdp_async"}, "DualSystem"),
        ({"model_type": "internvla_n1"}, "DualSystem"),
        ({"model_type": "cma-clip"}, "CMA"),
        ({"model_type": "seq2seq"}, "Seq2Seq"),
        ({"model_type": "rdp"}, "RDP"),
        ({"model_type": "internnav_nextdit"}, "NextDiT"),
        ({"model_type": "bert"}, None),
        ({}, None),
    ],
)
def test_configurations_say_the_family(tmp_path, stored, expected):
    (tmp_path / "config.json").write_text(json.dumps(stored))
    family = family_of_checkpoint(tmp_path)
    assert (family and family.name) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("rgbd_encoder.former_net.x", "NavDP"),
        ("net.state_encoder.rnn.x", "Seq2Seq"),
        ("state_txt_cross_encoder.x", "CMA"),
        ("action_dp_pred_net.x", "RDP"),
        ("layer.weight", None),
    ],
)
def test_names_of_weights_say_the_family_of_released_files(tmp_path, key, expected):
    torch.save({key: torch.zeros(1)}, tmp_path / "weights.pth")
    for path in (tmp_path, tmp_path / "weights.pth"):
        family = family_of_checkpoint(path)
        assert (family and family.name) == expected
    torch.save({key: torch.zeros(1)}, tmp_path / "others.pth")
    with pytest.raises(ValueError, match=r"others.pth', 'weights.pth'\]: name one of them"):
        load_policy(tmp_path)


def test_what_drives_no_robot_is_one_clear_error(tmp_path):
    tiny_navdp().save_pretrained(tmp_path / "expert")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "empty").mkdir()
    goal_models = "navdp, iplanner, viplanner, gnm, vint, nomad, ddppo"
    known = f"expected dual_system, system2, {goal_models}, rdp, seq2seq or cma"
    for name, message in (
        ("expert", f"expert: found navdp_action_expert, {known}"),
        ("bert", f"bert: found another model, {known}"),
        ("empty", "found no config.json"),
        ("nowhere", "there is no such folder"),
    ):
        with pytest.raises(ValueError, match=message):
            load_policy(tmp_path / name)


def test_an_adapter_is_of_the_family_of_its_base(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for path in (base, adapter):
        path.mkdir()
    (base / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    assert family_of_checkpoint(adapter).name == "System2"
    settings["base_model_name_or_path"] = str(adapter)
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="stands on itself"):
        load_policy(adapter)
