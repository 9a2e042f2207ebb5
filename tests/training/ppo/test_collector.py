"""Rollouts hold what happened, in step with the model's memory."""

import torch
from torch.distributions import Categorical

from internnav_hf.training.ppo.collector import Collector
from internnav_hf.training.ppo.settings import PPOArguments
from tests.tiny.ddppo import tiny_ddppo


class Pool:
    """Two environments: the first ends every third step, the second never."""

    def __init__(self):
        self.observations = {"pointgoal": torch.zeros(2, 2), "depth": torch.zeros(2, 16, 16, 1)}
        self.rewards, self.done = torch.zeros(2), torch.zeros(2, dtype=torch.bool)
        self.results, self.num_steps, self.taken = torch.zeros(2, 4), 0, []

    def reset(self):
        self._see()

    def _see(self):
        generator = torch.Generator().manual_seed(self.num_steps)
        for seen in self.observations.values():
            seen.copy_(torch.rand(seen.shape, generator=generator))

    def step(self, actions):
        self.num_steps += 1
        self.taken.append(actions.clone())
        self._see()
        self.rewards[:] = torch.tensor([self.num_steps, -self.num_steps])
        self.done[0] = self.num_steps % 3 == 0
        self.results[0] = self.num_steps

    def states(self):
        return [{"steps": self.num_steps}] * 2

    def restore(self, states):
        self.num_steps = states[0]["steps"]
        self._see()


def collector(seed=0, steps=8, **options):
    model = tiny_ddppo(image_height=16, image_width=16)
    settings = PPOArguments(num_environments=2, rollout_steps=steps, num_minibatches=2)
    made = Collector(model, Pool(), settings, seed, **options)
    made.start()
    return made


def test_masks_and_previous_actions():
    made = collector()
    frames, results = made.collect()
    assert frames == 16
    assert results.tolist() == [[3] * 4, [6] * 4]
    rollout, taken = made._rollout, torch.stack(made.pool.taken, 1)
    begins = [[0, 3, 6], [0]]
    for row in range(2):
        assert (~rollout["masks"][row]).nonzero()[:, 0].tolist() == begins[row]
    torch.testing.assert_close(rollout["actions"], taken)
    torch.testing.assert_close(rollout["previous_actions"][:, 1:], taken[:, :-1])
    made.collect()
    assert (~made._rollout["masks"][0]).nonzero()[:, 0].tolist() == [1, 4, 7]  # goes on: 9, 12, 15
    assert made._rollout["masks"][1].all()
    torch.testing.assert_close(made._rollout["previous_actions"][:, 0], taken[:, -1])


def test_a_model_that_has_not_learnt_yet_judges_a_rollout_as_when_it_was_driven():
    made = collector()
    made.collect()
    for _ in range(2):
        for batch in made.batches(lambda *_: None):
            targets = {k: batch.pop(k) for k in ("actions", "log_probs", "advantages", "returns")}
            output = made.model(**batch)
            log_probs = Categorical(logits=output.logits).log_prob(targets["actions"])
            torch.testing.assert_close(log_probs, targets["log_probs"], rtol=0, atol=1e-5)
            values = targets["returns"] - targets["advantages"]
            torch.testing.assert_close(output.state_values, values, rtol=0, atol=1e-5)
            if not made._parts:
                break


def test_advantages_look_beyond_the_rollout_but_not_beyond_an_episode():
    made = collector(steps=3)
    made.collect()
    returns = made._rollout["returns"]
    assert returns[0, -1] == 3  # its third step ended the episode
    next_values = made._look().state_values[:, 0]
    torch.testing.assert_close(returns[1, -1], -3 + 0.99 * next_values[1].detach())


def test_each_pass_has_every_environment_once():
    made = collector()
    parts = []
    for batch in made.batches(lambda *_: None):
        parts.append(batch["actions"])
        if len(parts) == 4:
            break
    for one, other in (parts[:2], parts[2:]):
        assert {tuple(one[0].tolist()), tuple(other[0].tolist())} == {
            tuple(row) for row in made._rollout["actions"].tolist()
        }


def test_stragglers_end_early():
    class After:
        def __init__(self):
            self.asked, self.finished = [], 0

        def ends(self, step, num_steps):
            self.asked.append((step, num_steps))
            return step == 5

        def finish(self):
            self.finished += 1

    preemption = After()
    made = collector(preemption=preemption)
    assert made.collect()[0] == 10
    assert preemption.asked == [(step, 8) for step in range(1, 6)]
    assert preemption.finished == 1
    assert made._rollout["advantages"].shape == (2, 5)


def test_a_restored_collector_goes_on_exactly():
    made = collector()
    batches = made.batches(lambda *_: None)
    for _ in range(3):
        next(batches)
    state = made.state()
    expected = [next(batches) for _ in range(4)]  # one of this rollout, three of the next
    other = collector(seed=1)
    other.restore(state)
    again = other.batches(lambda *_: None)
    for theirs in expected:
        for name, tensor in next(again).items():
            assert torch.equal(tensor, theirs[name]), name
    for _ in range(1):
        next(batches)
    assert made.state()["rollout"] == {}  # nothing of it is left
