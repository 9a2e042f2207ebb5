"""Seq2Seq and CMA at inference: what they did in training, whatever else is in the batch."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from internnav_hf.models.vln.cma import CMAModel
from internnav_hf.policies import VLNPolicy, family_of_checkpoint, load_vln_policy
from tests.policies.views import SENTENCES, views
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.vln import tiny_cma, tiny_seq2seq
from tests.tiny.vln_processor import tiny_vln_processor

MODELS = {"seq2seq": tiny_seq2seq, "cma": tiny_cma}


@pytest.fixture(params=MODELS)
def policy(request) -> VLNPolicy:
    fields = {"use_previous_action": True} if request.param == "seq2seq" else {}
    model = MODELS[request.param](**fields)
    # Fresh weights answer the same to all; larger ones do not.
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return VLNPolicy(model, tiny_vln_processor())


def walk(policy, sentence, seen) -> list:
    policy.reset(sentence)
    return [policy.act(view) for view in seen]


def test_an_episode_is_what_forward_says_of_it(policy):
    """Step by step, with the state carried, as the whole episode at once."""
    seen, processor = views(0, 5), policy.processor
    steps = walk(policy, SENTENCES[0], seen)
    ids = torch.from_numpy(processor.encode_instructions(SENTENCES[:1]))
    frames = {
        name: torch.from_numpy(encode(np.stack([view[name] for view in seen])))[None]
        for name, encode in (("rgb", processor.encode_rgb), ("depth", processor.encode_depth))
    }
    actions = [step.action for step in steps]
    previous = torch.tensor([[-1, *actions[:-1]]])
    whole = policy.model(ids, **frames, previous_actions=previous)
    assert whole.logits.argmax(-1)[0].tolist() == actions
    found = torch.tensor([step.progress for step in steps])
    torch.testing.assert_close(found, whole.progress[0].detach(), rtol=0, atol=1e-5)


def test_robots_at_different_steps_do_not_see_each_other(policy):
    """Episodes that start one after the other, with instructions of different lengths."""
    seen = [views(seed, 4) for seed in range(3)]
    alone = [walk(policy, sentence, v) for sentence, v in zip(SENTENCES, seen, strict=True)]
    episodes = [policy.start(sentence) for sentence in SENTENCES]
    together: list[list] = [[], [], []]
    for time in range(6):
        rows = [i for i in range(3) if i <= time < i + 4]
        shown = [seen[i][time - i] for i in rows]
        for i, step in zip(rows, policy.steps([episodes[i] for i in rows], shown), strict=True):
            together[i].append(step)
    for one, other in zip(alone, together, strict=True):
        assert [step.action for step in one] == [step.action for step in other]
        np.testing.assert_allclose(
            [step.progress for step in one], [step.progress for step in other], atol=1e-5
        )


def test_what_the_robot_did_instead_is_told(policy):
    seen = views(0, 2)
    first = walk(policy, SENTENCES[0], seen)
    seen[1]["previous_action"] = (first[0].action + 1) % 4
    assert walk(policy, SENTENCES[0], seen)[1].progress != first[1].progress
    seen[1]["previous_action"] = first[0].action
    assert walk(policy, SENTENCES[0], seen)[1].progress == first[1].progress


def test_a_model_without_progress_monitor_acts(tmp_path):
    policy = VLNPolicy(tiny_seq2seq(has_progress_monitor=False), tiny_vln_processor())
    assert walk(policy, SENTENCES[0], views(0, 1))[0].progress is None
    assert policy.steps([], []) == []


@pytest.mark.parametrize("kind", MODELS)
def test_a_folder_is_all_that_is_needed(tmp_path, kind):
    model, camera = MODELS[kind](), {"height_m": 0.5, "width": 32, "height": 24}
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"found no processor_config.json; pass a VLNProcessor"):
        load_vln_policy(tmp_path)
    processor = tiny_vln_processor(camera=camera)
    assert load_vln_policy(tmp_path, processor).processor is processor
    processor.save_pretrained(tmp_path)
    loaded = load_vln_policy(tmp_path)
    assert family_of_checkpoint(tmp_path).name.lower() == kind
    assert loaded.camera is not None
    assert loaded.camera.height_m == 0.5
    assert type(AutoProcessor.from_pretrained(tmp_path)) is type(processor)
    expected = walk(VLNPolicy(model, processor), SENTENCES[1], views(3, 3))
    for step, same in zip(walk(loaded, SENTENCES[1], views(3, 3)), expected, strict=True):
        assert (step.action, step.progress) == (same.action, pytest.approx(same.progress, abs=1e-6))


def test_a_folder_with_another_model_is_an_error(tmp_path):
    tiny_navdp_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="found navdp, expected rdp, seq2seq or cma"):
        load_vln_policy(tmp_path)
    with pytest.raises(ValueError, match="nowhere: there is no such folder"):
        load_vln_policy(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "ckpt.pth"])
def test_released_weights_tell_what_they_are_where_no_configuration_does(
    tmp_path, monkeypatch, name
):
    keys = {
        "state_encoder.rnn.weight_hh_l0": torch.zeros(6, 2),
        "second_state_encoder.rnn.weight_hh_l0": torch.zeros(6, 2),
    }
    path, tiny, opened = tmp_path / name, tiny_cma(), []
    monkeypatch.setattr(CMAModel, "from_pretrained", lambda path: opened.append(path) or tiny)
    torch.save({f"net.{key}": value for key, value in keys.items()}, path)
    for place in (path, tmp_path):
        assert family_of_checkpoint(place).name == "CMA"
        with pytest.raises(ValueError, match="found no processor_config.json; pass a VLNProcessor"):
            VLNPolicy.from_pretrained(place)
        assert load_vln_policy(place, tiny_vln_processor()).model is tiny
    assert opened == [path, tmp_path]
    del keys["second_state_encoder.rnn.weight_hh_l0"]
    torch.save(keys, path)
    assert family_of_checkpoint(path).name == "Seq2Seq"
    torch.save({"weight": torch.zeros(1)}, path)
    assert family_of_checkpoint(tmp_path) is None


def test_a_processor_of_another_size_is_an_error():
    with pytest.raises(ValueError, match="depth_size: found 16, the model's is 32"):
        VLNPolicy(tiny_seq2seq(), tiny_vln_processor(depth_size=16))


def test_bad_observations_are_one_clear_error():
    policy = VLNPolicy(tiny_seq2seq(), tiny_vln_processor())
    with pytest.raises(ValueError, match="instruction: found 'abracadabra'"):
        policy.reset("abracadabra")
    view = views(0, 1)[0]
    for change, message in (
        ({"depth": None}, "found no 'depth'"),
        ({"rgb": None}, "found no 'rgb'"),
        ({"depth": view["depth"] * 1000}, "expected metres"),
        ({"previous_action": 5}, "previous_action: found 5, expected -1 to 3"),
        ({"depth": view["depth"][:, :9]}, r"expected the shape of 'rgb', \(24, 32\)"),
    ):
        policy.reset(SENTENCES[0])
        with pytest.raises(ValueError, match=message):
            policy.act(view | change)
    with pytest.raises(ValueError, match="1 episodes and 2 observations"):
        policy.steps([policy.episode], [view, view])


@pytest.mark.parametrize("kind", MODELS)
def test_arguments_of_loading_reach_the_model(tmp_path, kind):
    MODELS[kind]().save_pretrained(tmp_path)
    tiny_vln_processor().save_pretrained(tmp_path)
    given = {"dtype": "bfloat16", "device_map": "cpu", "revision": "main", "local_files_only": True}
    given |= {"attn_implementation": "eager", "token": None, "cache_dir": str(tmp_path)}
    for load in (VLNPolicy.from_pretrained, load_vln_policy):
        policy = load(tmp_path, **given)
        assert policy.model.dtype == torch.bfloat16
        assert walk(policy, SENTENCES[0], views(0, 2))[0].action in range(4)
    with pytest.raises(ValueError, match="ignore_mismatched_sizes: it is not for models here"):
        load_vln_policy(tmp_path, ignore_mismatched_sizes=True)
