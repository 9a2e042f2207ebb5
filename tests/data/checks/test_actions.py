import numpy as np
import pytest

from internnav_hf.data.checks.actions import (
    AT_FRAME,
    TOO_LATE,
    Transitions,
    better_reading,
    check_agreement,
    clear_moves,
    wrong_together,
)
from internnav_hf.geometry import wrap_angle

SHIFTS = {-1: AT_FRAME, 1: TOO_LATE}


def some_walk(seed=0, length=60):
    """(T,) what led to each frame: runs of steps, some turns."""
    rng = np.random.default_rng(seed)
    led = [-1]
    while len(led) < length:
        led += [1] * int(rng.integers(1, 7))
        led += [int(rng.integers(2, 4))] * int(rng.integers(1, 4))
    return np.array(led[:length])


def poses_of(led, step=0.25, turn=15.0, noise=0.0, blocked=0.0, seed=0):
    """(T, 3); a share `blocked` of the steps goes nowhere, all others are off by some noise."""
    rng = np.random.default_rng(seed)
    x = y = yaw = 0.0
    poses = []
    for action in led:
        size = 1 + noise * rng.normal()
        yaw += np.radians(turn) * size * {2: 1, 3: -1}.get(action, 0) + 0.1 * noise * rng.normal()
        if action == 1 and rng.random() >= blocked:
            x, y = x + step * size * np.cos(yaw), y + step * size * np.sin(yaw)
        poses.append((x, y, wrap_angle(yaw)))
    return np.array(poses)


def check(led, poses):
    check_agreement(Transitions.of(np.array(led), poses), SHIFTS, "episode.parquet", "action")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"turn": 30.0},
        {"step": 0.4, "turn": 10.0},
        {"noise": 0.3},
        {"blocked": 0.4},
        {"noise": 0.2, "blocked": 0.3, "turn": 30.0},
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_what_led_to_the_frames_passes(options, seed):
    led = some_walk(seed)
    check(led, poses_of(led, seed=seed, **options))


def test_a_few_odd_frames_pass():
    led = some_walk()
    poses = poses_of(led)
    led[[7, 23, 41]] = 2, 3, 1
    check(led, poses)


MISREADINGS = {
    "taken at each frame": (lambda led: np.append(led[1:], 0), "shifted by one: these .* AT each"),
    "a frame too late": (lambda led: np.insert(led[:-1], 1, 1), "shifted by one: .* too late"),
    "swapped": (
        lambda led: np.select([led == 2, led == 3], [3, 2], led),
        "they fit with left and right swapped",
    ),
    "of another numbering": (
        lambda led: np.select([led == 1, led == 2, led == 3], [3, 1, 2], led),
        "they fit if 3 is forward, 1 is left, 2 is right",
    ),
    "of another walk": (lambda led: np.roll(led, 23), "no shift fits"),
}


@pytest.mark.parametrize("name", MISREADINGS)
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_what_cannot_have_led_to_the_frames_is_named(name, noise):
    change, message = MISREADINGS[name]
    led = some_walk(3)
    poses = poses_of(led, noise=noise)
    with pytest.raises(ValueError, match=rf"episode.parquet: action: .* contradict.*{message}"):
        check(change(led), poses)


def test_a_shift_shows_over_walks_that_are_nearly_straight():
    walks = [np.array([-1, *[1] * n, 2, *[1] * (9 - n)]) for n in range(2, 8)]
    shifted = [Transitions.of(np.append(led[1:], 0), poses_of(led)) for led in walks]
    assert better_reading(shifted[0]) is None
    assert better_reading(Transitions.joined(shifted)).shift == -1


def test_moves_are_told_by_what_the_robot_does_most():
    poses = [(0, 0, 0), (0.2, 0, 0.02), (0.22, 0, 0.3), (0.22, 0, 0.3), (0.4, 0.1, 0.1)]
    assert clear_moves(np.array(poses)).tolist() == [0, 1, -1, -1]


def test_a_sound_walk_stays_where_others_are_shifted():
    """However long those are; a walk that tells nothing by itself goes with them."""
    sound, long, straight = some_walk(0, 40), some_walk(1, 400), np.array([-1] + [1] * 9)
    walks = {
        "sound": Transitions.of(sound, poses_of(sound)),
        "long": Transitions.of(np.append(long[1:], 0), poses_of(long)),
        "straight": Transitions.of(straight, poses_of(straight)),
    }
    wrong = wrong_together(walks, SHIFTS, "scene", "action")
    assert set(wrong) == {"long", "straight"}
    assert "scene: action: found" in wrong["long"]
    assert not wrong_together({"sound": walks["sound"]}, SHIFTS, "scene", "action")
    assert not wrong_together({}, SHIFTS, "scene", "action")
