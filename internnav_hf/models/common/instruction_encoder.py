"""Instruction encoder of Seq2Seq and CMA: word vectors and an LSTM.

Legend: B instructions, L tokens, H hidden.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

PAD = 0


class InstructionEncoder(nn.Module):
    """Returns (B, L, 2H), a vector per token, if `bidirectional`, else (B, H), one per instruction.

    `rnn_type` is "lstm" or "gru".
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        bidirectional: bool,
        rnn_type: str = "lstm",
    ):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, embedding_size, padding_idx=PAD)
        rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[rnn_type]
        self.rnn = rnn(embedding_size, hidden_size, bidirectional=bidirectional, batch_first=True)

    def forward(self, instruction_ids: Tensor) -> Tensor:
        """Encode `instruction_ids` (B, L), right-padded with 0: zeros at padding, and in rows that
        are all padding.
        """
        is_word = instruction_ids != PAD
        lengths = is_word.sum(1)
        packed = pack_padded_sequence(
            self.word_embeddings(instruction_ids),
            lengths.clamp(min=1).cpu(),
            batch_first=True,
            enforce_sorted=False,
        )
        hidden, last = self.rnn(packed)
        if not self.rnn.bidirectional:
            last = last[0] if isinstance(last, tuple) else last
            return last[-1] * (lengths > 0)[:, None]
        length = instruction_ids.shape[1]
        tokens, _ = pad_packed_sequence(hidden, batch_first=True, total_length=length)
        return tokens * is_word[..., None]


def check_words(instruction_ids: Tensor, vocab_size: int, row_mask: Tensor | None = None) -> None:
    """Raise ValueError for an instruction without words or with ids of another vocabulary.

    Rows that are not in `row_mask` (B,) are padding.
    """
    is_empty = (instruction_ids == PAD).all(1)
    if row_mask is not None:
        is_empty = is_empty & row_mask
    problems = torch.stack([is_empty.any(), (instruction_ids >= vocab_size).any()])
    has_empty, has_unknown = problems.tolist()  # one wait for the device
    if has_empty:
        rows = is_empty.nonzero().flatten().tolist()
        raise ValueError(f"instruction_ids: found no word in row(s) {rows}, expected one or more.")
    if has_unknown:
        raise ValueError(
            f"instruction_ids: found {instruction_ids.max().item()}, expected ids below "
            f"vocab_size={vocab_size}: they are of another vocabulary."
        )
