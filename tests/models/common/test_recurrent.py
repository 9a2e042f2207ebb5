"""The GRU with resets against upstream's numbers and against one step at a time."""

import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from internnav_hf.models.common.recurrent import StateEncoder, last_states, reset_mask_of
from tests.tiny.seeded_weights import seeded_state_dict


def encoder(input_size: int = 24, hidden_size: int = 16) -> StateEncoder:
    module = StateEncoder(input_size, hidden_size)
    module.load_state_dict(seeded_state_dict(module.state_dict()))
    return module


def golden():
    data = load_file("tests/golden/rnn_state_encoder.safetensors")
    by_row = {key: data[key].unflatten(0, (5, 3)).transpose(0, 1) for key in ("in.x", "out.y")}
    return by_row, ~data["in.masks"].reshape(5, 3).T, data["in.h0"][:, 0], data["out.h"][:, 0]


@torch.no_grad()
def test_it_gives_the_published_numbers():
    by_row, resets, state, last = golden()
    states = encoder()(by_row["in.x"], state, resets)
    assert_close(states, by_row["out.y"], atol=1e-5, rtol=0)
    assert_close(states[:, -1], last, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_sequence_at_once_is_its_steps_one_by_one():
    by_row, resets, state, _ = golden()
    module, steps = encoder(), []
    for t in range(5):
        step = module(by_row["in.x"][:, t : t + 1], state, resets[:, t : t + 1])
        state = step[:, 0]
        steps.append(step)
    by_step = torch.cat(steps, dim=1)
    assert_close(module(by_row["in.x"], golden()[2], resets), by_step, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_what_was_before_a_reset_does_not_matter():
    by_row, resets, state, _ = golden()
    module, resets = encoder(), torch.zeros_like(resets)
    resets[:, 2] = True
    fresh = module(by_row["in.x"][:, 2:], torch.zeros_like(state), resets[:, 2:])
    assert_close(module(by_row["in.x"], state + 1, resets)[:, 2:], fresh)


def test_without_a_state_a_sequence_starts_with_a_reset():
    x = torch.zeros(2, 3, 4)
    assert reset_mask_of(None, None, x.shape[:2], x).tolist() == [[True, False, False]] * 2
    assert not reset_mask_of(None, x[:, :1], x.shape[:2], x).any()
    given = torch.tensor([[0, 1, 0], [1, 0, 0]])
    assert reset_mask_of(given, None, x.shape[:2], x).tolist() == given.bool().tolist()


def test_the_last_state_is_that_of_the_last_valid_step():
    states = torch.arange(6.0).reshape(2, 3, 1)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert last_states(states, torch.tensor([[9.0], [9.0]]), mask).tolist() == [[1.0], [9.0]]
