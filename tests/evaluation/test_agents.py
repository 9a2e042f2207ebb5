"""What all agents promise: what does not fit together is one error that changes nothing."""

from dataclasses import replace

import numpy as np
import pytest

from internnav_hf.evaluation.agents import ForwardWalker, OracleAgent, RandomWalker
from internnav_hf.evaluation.visual_navigation import agents as visual_navigation
from internnav_hf.evaluation.visual_navigation.agents import RandomPath, StraightLine
from internnav_hf.evaluation.vln.decoupled_agent import DecoupledAgent
from internnav_hf.evaluation.vln.dual_system_agent import DualSystemAgent
from internnav_hf.evaluation.vln.policy_agent import PolicyAgent
from internnav_hf.evaluation.vln.system2_agent import System2Agent
from internnav_hf.geometry import Action
from internnav_hf.policies import PointGoal
from tests.evaluation.visual_navigation.scenes import start_drive
from tests.policies import cases
from tests.tiny.scene_set import CAMERA

SEEING = {
    "system2": lambda: System2Agent(cases.system2()),
    "dual": lambda: DualSystemAgent(cases.dual("navdp_async")),
    "decoupled": lambda: DecoupledAgent(cases.system2(), cases.navdp()),
    "cma": lambda: PolicyAgent(cases.follower("cma"), "cma"),
    "rdp": lambda: PolicyAgent(cases.follower("rdp"), "rdp"),
}
BLIND = {
    "random": lambda: RandomWalker(0),
    "forward": lambda: ForwardWalker(0),
    "oracle": OracleAgent,
}
VIEW = replace(CAMERA, width=cases.WIDTH, height=cases.HEIGHT)


@pytest.fixture(scope="module")
def envs(scene_set):
    name, episode = scene_set.tasks[0]
    return [_reset(scene_set.make_env(name, VIEW, 1.0, 50), episode) for _ in range(2)]


def _reset(env, episode):
    env.seen = env.reset(options={"episode": episode})
    return env


def _begun(agent, envs):
    for index, env in enumerate(envs):
        agent.reset(index, env, "Walk past the red table.")
    return agent


def _given(envs):
    return [env.seen[0] for env in envs], [env.seen[1] for env in envs]


@pytest.mark.parametrize("name", [*SEEING, *BLIND])
def test_environments_and_views_that_do_not_match_are_refused(envs, name):
    agent, (seen, infos) = (SEEING | BLIND)[name](), _given(envs)
    with pytest.raises(ValueError, match="environment 0, which has no episode \\(none has been re"):
        agent.act([0], seen[:1], infos[:1])
    _begun(agent, envs)
    for indices, told in (
        ([0, 7], r"environment 7, which has no episode \(known: \[0, 1\]\)"),
        ([1, 1], "environment twice"),
        ([0], "1 environments and 2 observations do not match"),
    ):
        with pytest.raises(ValueError, match=f"{agent.name}: found .*{told}|{told}"):
            agent.act(indices, seen, infos)
    assert len(agent.act([0, 1], seen, infos)) == 2


@pytest.mark.parametrize("name", SEEING)
def test_a_bad_view_in_one_environment_changes_nothing_in_any(envs, name):
    agent, untouched = (_begun(SEEING[name](), envs) for _ in range(2))
    seen, infos = _given(envs)
    rgb, nowhere = seen[1]["rgb"], infos[1] | {"position": (np.nan, 0.0)}
    for step in range(6):  # some are in the middle of a plan
        for wrong in ({"rgb": rgb / 255}, {"rgb": None}, {"rgb": rgb[..., 0]}):
            with pytest.raises(ValueError, match="observation 2 of 2: (rgb: )?found"):
                agent.act([0, 1], [seen[0], seen[1] | wrong], infos)
        if name in ("decoupled", "cma", "rdp"):
            wrong = seen[1] | {"depth": 1000 * seen[1]["depth"]}
            with pytest.raises(ValueError, match="depth: found a median"):
                agent.act([0, 1], [seen[0], wrong], infos)
        with pytest.raises(ValueError, match="observation 2 of 2: pose: found"):
            agent.act([0, 1], seen, [infos[0], nowhere])
        actions = agent.act([0, 1], seen, infos)
        assert actions == untouched.act([0, 1], seen, infos), step


@pytest.mark.parametrize("name", SEEING)
def test_what_is_no_instruction_begins_no_episode(envs, name):
    agent, (seen, infos) = SEEING[name](), _given(envs)
    for text in (None, "", 5, b"walk"):
        with pytest.raises(ValueError, match="instruction: found"):
            agent.reset(0, envs[0], text)
    with pytest.raises(ValueError, match="has no episode"):
        agent.act([0], seen[:1], infos[:1])


def test_who_has_stopped_stays(envs):
    agent, (seen, infos) = _begun(ForwardWalker(0, num_steps=1), envs[:1]), _given(envs[:1])
    actions = [agent.act([0], seen, infos)[0] for _ in range(30)]
    assert set(actions[actions.index(Action.STOP) :]) == {Action.STOP}


@pytest.mark.parametrize(
    "make",
    [
        StraightLine,
        lambda: RandomPath(0),
        lambda: visual_navigation.PolicyAgent(cases.navdp(), "navdp"),
    ],
)
def test_drivers_that_were_not_reset_are_refused(make):
    agent, drive = make(), start_drive()
    seen, goal = [drive.observe()], [PointGoal((1.0, 0.0))]
    with pytest.raises(ValueError, match="environment 3, which has no episode"):
        agent.plan([3], seen, goal)
    agent.reset(3, drive)
    with pytest.raises(ValueError, match="do not match"):
        agent.plan([3], seen, goal * 2)
    assert len(agent.plan([3], seen, goal)) == 1
