from torch.distributed import HashStore

from internnav_hf.training.ppo.preemption import Preemption, start_preemption


def test_stragglers_end_when_enough_are_done():
    store = HashStore()
    several = [Preemption(store, num_processes=5) for _ in range(5)]
    straggler = several[-1]
    for rollout in range(2):
        for done, one in enumerate(several[:3], 1):
            assert not straggler.ends(50, 100)
            one.finish()
            assert straggler.ends(50, 100) == (done == 3), rollout
        assert not straggler.ends(24, 100)  # a quarter in any case
        assert straggler.ends(25, 100)
        for one in several[3:]:
            one.finish()


def test_two_never_preempt_each_other():
    store = HashStore()
    fast, slow = (Preemption(store, num_processes=2) for _ in range(2))
    fast.finish()
    assert not slow.ends(99, 100)


def test_one_process_needs_none():
    assert start_preemption(1, 0, 0.6) is None
