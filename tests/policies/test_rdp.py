"""RDP at inference: it decides, walks by what it decided, and sees what it does."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from internnav_hf.data import VLNDataset
from internnav_hf.models.rdp.displacements import discrete_actions
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from internnav_hf.policies import RDPPolicy, load_vln_policy
from tests.data import vln_pe
from tests.policies.views import SENTENCES, views
from tests.tiny.rdp import tiny_rdp
from tests.tiny.vln import tiny_cma
from tests.tiny.vln_processor import tiny_vln_processor


def rdp_policy(stop=-9.0, fields=None, **settings) -> RDPPolicy:
    """Whose `stop` head says, before the sigmoid, what it is told."""
    model = tiny_rdp(**(fields or {}))
    last = list(model.stop_head.parameters())[-1]
    torch.nn.init.constant_(last, stop)
    return RDPPolicy(model, tiny_vln_processor(depth_size=64), **settings)


def walks(seed: int, count: int) -> list[dict]:
    """Views on a way that turns."""
    poses = [(0.2 * t, 0.01 * t * t, 3.0 + 0.1 * t) for t in range(count)]
    return [view | {"pose": pose} for view, pose in zip(views(seed, count), poses, strict=True)]


def walk(policy, sentence, seen, name="") -> list:
    episode = policy.start(sentence, name)
    return [policy.steps([episode], [view])[0] for view in seen]


def test_it_decides_again_when_it_has_done_what_it_decided():
    steps = walk(rdp_policy(actions_per_decision=3), SENTENCES[0], walks(0, 7))
    decided = [step.path is not None for step in steps]
    assert decided == [True, False, False, True, False, False, True]
    for step in steps:
        assert (step.progress is None) == (step.path is None)
    assert steps[0].path.shape == (9, 2)
    assert not steps[0].path[0].any()


def test_actions_are_those_of_the_displacements():
    policy = rdp_policy(actions_per_decision=8)
    seen = walks(0, 8)
    steps = walk(policy, SENTENCES[0], seen)
    episode = policy.start(SENTENCES[0])
    acted = policy.model.act(
        episode.instruction[None],
        **policy._views(seen[:1]),
        previous_displacements=torch.zeros(1, 4, 3),
        relative_pose=torch.zeros(1, 3),
        generator=[episode.generator],
    )
    expected = discrete_actions(acted.displacements, acted.stop_progress)[0].tolist()
    assert [step.action for step in steps] == expected
    np.testing.assert_allclose(
        steps[0].path[1:], acted.displacements[0, :, :2].cumsum(0), atol=1e-6
    )


def test_it_stops_when_a_head_says_so():
    assert walk(rdp_policy(stop=9.0), SENTENCES[0], walks(0, 1))[0].action == 0
    other = rdp_policy(stop=9.0, stop_with="progress")
    assert walk(other, SENTENCES[0], walks(0, 1))[0].action != 0


def test_robots_at_different_steps_do_not_see_each_other():
    """Draws included: they are those of the episode's name."""
    policy = rdp_policy(actions_per_decision=2)
    seen = [walks(seed, 4) for seed in range(3)]
    alone = [walk(policy, SENTENCES[i], seen[i], str(i)) for i in range(3)]
    episodes = [policy.start(sentence, str(i)) for i, sentence in enumerate(SENTENCES)]
    together: list[list] = [[], [], []]
    for time in range(6):
        rows = [i for i in range(3) if i <= time < i + 4]
        shown = [seen[i][time - i] for i in rows]
        for i, step in zip(rows, policy.steps([episodes[i] for i in rows], shown), strict=True):
            together[i].append(step)
    for one, other in zip(alone, together, strict=True):
        assert [step.action for step in one] == [step.action for step in other]
        for step, same in zip(one, other, strict=True):
            assert (step.path is None) == (same.path is None)
            if step.path is not None:
                np.testing.assert_allclose(step.path, same.path, atol=1e-5)
    again = walk(policy, SENTENCES[0], seen[0], "another name")
    assert not np.allclose(again[0].path, alone[0][0].path)


def test_the_model_is_told_the_way_so_far():
    policy, told = rdp_policy(), []
    act = policy.model.act

    def listen(*args, **kwargs):
        told.append(kwargs)
        return act(*args, **kwargs)

    policy.model.act = listen
    walk(policy, SENTENCES[0], walks(0, 7))
    first, last = told[0], told[-1]
    assert not first["previous_displacements"].any()
    assert not first["relative_pose"].any()
    poses = np.array([view["pose"] for view in walks(0, 7)])
    yaw = poses[-1, 2]
    back = poses[-2, :2] - poses[-1, :2]  # from here to the place before
    local = [back @ [np.cos(yaw), np.sin(yaw)], back @ [-np.sin(yaw), np.cos(yaw)], -0.1]
    np.testing.assert_allclose(last["previous_displacements"][0, 0], local, atol=1e-6)
    assert last["previous_displacements"].shape == (1, 4, 3)
    # the data have headings in [-pi, pi), whose differences are as they are
    assert last["relative_pose"][0, 2] == pytest.approx(0.6 - 2 * np.pi)


@pytest.mark.parametrize("rounds", [0, 1, -2])
def test_the_way_so_far_is_that_of_the_data_whatever_odometry_counts(tmp_path, rounds):
    """Of a robot that has turned round more than once, too."""
    actions = vln_pe.some_actions(9)
    vln_pe.write_scene(tmp_path / "d" / "r2r" / "a", [actions])
    sizes = {"image_size": 32, "depth_size": 64}
    processor = VLNProcessor(word_tokenizer(vln_pe.WORDS), **sizes)
    data = VLNDataset(tmp_path / "d", processor, "displacements", cache_dir=tmp_path / "cache")[0]
    poses = vln_pe.poses_of(actions) + np.array([0, 0, 2 * np.pi * rounds])
    policy, told = rdp_policy(), []
    act = policy.model.act
    policy.model.act = lambda *args, **kwargs: told.append(kwargs) or act(*args, **kwargs)
    seen = zip(views(0, 9), poses, strict=True)
    walk(policy, SENTENCES[0], [view | {"pose": pose} for view, pose in seen])
    for name in ("relative_pose", "previous_displacements"):
        found = np.concatenate([step[name] for step in told])
        np.testing.assert_allclose(found, data[name], atol=1e-5)


def test_what_the_robot_did_instead_ends_the_plan():
    policy, seen = rdp_policy(actions_per_decision=8), walks(0, 3)
    steps = walk(policy, SENTENCES[0], seen)
    seen[1]["previous_action"] = steps[0].action
    assert walk(policy, SENTENCES[0], seen)[1].path is None
    seen[1]["previous_action"] = (steps[0].action + 1) % 4
    assert walk(policy, SENTENCES[0], seen)[1].path is not None


def test_the_published_agent_sees_twice_where_it_decides():
    """But where it starts: there its state is empty both times."""
    fields = ({}, {"state_updates_per_decision": 2})
    once, twice = (rdp_policy(fields=each, actions_per_decision=1) for each in fields)
    for count, is_same in ((1, True), (2, False)):
        states = []
        for policy in (once, twice):
            episode = policy.start(SENTENCES[0])
            for view in walks(0, count):
                policy.steps([episode], [view])
            states.append(episode.recurrent_state)
        assert torch.allclose(*states, atol=1e-6) == is_same


def test_a_folder_is_all_that_is_needed(tmp_path):
    policy = rdp_policy()
    policy.model.save_pretrained(tmp_path)
    policy.processor.save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is type(policy.processor)
    loaded = load_vln_policy(tmp_path, seed=3)
    assert isinstance(loaded, RDPPolicy)
    assert loaded.seed == 3
    seen = walks(0, 2)
    expected = walk(RDPPolicy(policy.model, policy.processor, seed=3), SENTENCES[0], seen)
    found = walk(loaded, SENTENCES[0], seen)
    np.testing.assert_allclose(found[0].path, expected[0].path, atol=1e-5)
    tiny_cma().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="found cma, expected rdp"):
        RDPPolicy.from_pretrained(tmp_path)


def test_bad_settings_and_poses_are_one_clear_error():
    with pytest.raises(ValueError, match="actions_per_decision: found 9, expected 1 to 8"):
        rdp_policy(actions_per_decision=9)
    with pytest.raises(ValueError, match="stop_with: found 'never'"):
        rdp_policy(stop_with="never")
    policy, view = rdp_policy(), walks(0, 1)[0]
    for pose in (None, (0.0, 0.0), (0.0, np.nan, 0.0)):
        policy.reset(SENTENCES[0])
        with pytest.raises(ValueError, match="observation: pose: found"):
            policy.act(view | {"pose": pose})
