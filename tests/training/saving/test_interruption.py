import os
import signal
import threading

import pytest
from torch import nn

from internnav_hf.training.saving.interruption import Interrupted, Interruption, forgets_steps


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def test_a_signal_waits_while_it_is_held_and_raises_when_released():
    interruption = Interruption()
    with interruption.heard():
        send()
        assert interruption.number == signal.SIGTERM
        with pytest.raises(Interrupted):
            interruption.release()
        send(signal.SIGUSR1)
        assert interruption.number == signal.SIGTERM  # the first counts


def test_released_it_raises_at_once():
    interruption = Interruption()
    with interruption.heard():
        interruption.release()
        with pytest.raises(Interrupted, match="SIGUSR1"):
            send(signal.SIGUSR1)


def test_nothing_raises_when_nobody_listens():
    interruption = Interruption()
    interruption.number = signal.SIGTERM
    interruption.release()


def test_a_thread_of_a_program_hears_nothing_and_runs():
    ran = []

    def work():
        with Interruption().heard():
            ran.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert ran


def test_only_norms_that_track_what_they_see_remember_steps():
    assert forgets_steps(nn.Sequential(nn.Dropout(), nn.LayerNorm(2), nn.BatchNorm1d(2).eval()))
    assert forgets_steps(nn.BatchNorm1d(2, track_running_stats=False))
    assert not forgets_steps(nn.Sequential(nn.BatchNorm2d(2)))
