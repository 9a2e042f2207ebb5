"""State of a recurrent policy: a GRU or an LSTM over steps, reset at the start of each episode.

Legend: B episodes, T steps, I input width, H hidden, L layers.
"""

import torch
from torch import Tensor, nn
from transformers import initialization as init


class StateEncoder(nn.Module):
    """One-layer GRU over (B, T, I). Its output after a step is its state."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size, batch_first=True)
        # here, as transformers' `_init_weights` leaves modules out that only have others inside
        self.init_weights()

    def forward(self, inputs: Tensor, state: Tensor, reset_mask: Tensor) -> Tensor:
        """(B, T, H): the state after each step of `inputs` (B, T, I), from `state` (B, H).

        Where `reset_mask` (B, T), the state is zeros before the step. Steps between resets are one
        call of the GRU, so that whole episodes from their start are a single one.
        """
        outputs = []
        for begin, end in _runs(reset_mask):
            state = state.masked_fill(reset_mask[:, begin, None], 0)
            output, last = self.rnn(inputs[:, begin:end], state[None])
            outputs.append(output)
            state = last[0]
        return torch.cat(outputs, dim=1)

    def init_weights(self) -> None:
        """As published: orthogonal weights, zero biases."""
        _start_rnn(self.rnn)


class LSTMStateEncoder(nn.Module):
    """LSTM of L layers over (B, T, I). Its state is both of each layer: (B, 2 * L, H), the hidden
    ones of all layers before the cells of all.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int):
        super().__init__()
        self.rnn = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.init_weights()  # here, see `StateEncoder`

    def forward(self, inputs: Tensor, state: Tensor, reset_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H), the outputs of the last layer, and the state after the last step; otherwise
        as `StateEncoder.forward`.
        """
        outputs = []
        for begin, end in _runs(reset_mask):
            state = state.masked_fill(reset_mask[:, begin, None, None], 0)
            layers = state.transpose(0, 1).contiguous()
            hidden, cells = layers.chunk(2)
            output, last = self.rnn(inputs[:, begin:end], (hidden, cells))
            outputs.append(output)
            state = torch.cat(last).transpose(0, 1)
        return torch.cat(outputs, dim=1), state

    def init_weights(self) -> None:
        """As published: orthogonal weights, zero biases."""
        _start_rnn(self.rnn)


def _runs(reset_mask: Tensor) -> list[tuple[int, int]]:
    """First steps, and the steps after the last ones, of the runs of steps between which no row of
    `reset_mask` (B, T) has a reset.
    """
    starts = 1 + reset_mask[:, 1:].any(0).nonzero().flatten().cpu()
    ends = [*starts.tolist(), reset_mask.shape[1]]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _start_rnn(rnn: nn.RNNBase) -> None:
    for name, parameter in rnn.named_parameters():
        if "weight" in name:
            init.orthogonal_(parameter)
        else:
            init.zeros_(parameter)


def reset_mask_of(
    reset_mask: Tensor | None, recurrent_state: Tensor | None, shape: torch.Size, like: Tensor
) -> Tensor:
    """Reset mask (B, T) bool, on the device of `like`: the given one, or True at the first step if
    no state is given.
    """
    if reset_mask is not None:
        return reset_mask.bool()
    resets = torch.zeros(shape, dtype=torch.bool, device=like.device)
    resets[:, 0] = recurrent_state is None
    return resets


def last_states(states: Tensor, initial: Tensor, step_mask: Tensor) -> Tensor:
    """(B, H): the state in `states` (B, T, H) after the last step in `step_mask` (B, T), or
    `initial` (B, H) for a row without steps.
    """
    num_steps = torch.arange(1, 1 + step_mask.shape[1], device=step_mask.device)
    last = (num_steps * step_mask).amax(1)
    picked = torch.cat([initial[:, None], states], dim=1)
    return picked[torch.arange(len(last), device=last.device), last]
