"""Lengths of System2's dialogues, from the tables of episodes and samples alone.

The parts of a dialogue do not share a token, so a length is a sum: the instruction's words, the
past views, the answer. Each different part is counted once, however many samples there are.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from internnav_hf.data.tasks.system2_sampling import history_indices
from internnav_hf.models.system2.dialogue import (
    CONJUNCTIONS,
    Answer,
    AnswerKind,
    training_messages,
)

STOP = Answer.of_actions([0])
ORIGIN = Answer.of_pixel(0, 0)


@dataclass(frozen=True)
class DialogueLengths:
    """Counts tokens with `num_tokens(messages, sizes)`; sizes are (width, height) in pixels.

    A length is one that no epoch exceeds: with the longest of the conjunctions, which each draws
    anew.
    """

    num_tokens: Callable[[list[dict[str, str]], Sequence[Sequence[int]]], int]
    num_history: int
    view_size: Sequence[int]
    look_down_size: Sequence[int]

    def of(self, samples: pa.Table, episodes: pa.Table) -> np.ndarray:
        """(samples,) tokens at most of each dialogue."""
        rows = samples["episode"].to_numpy().astype(np.int64)
        keys = (rows << 16) + samples["instruction_index"].to_numpy()
        lengths = _of_each(keys, lambda key: self._instruction(episodes, *divmod(key, 1 << 16)))
        frames = samples["frame_index"].to_numpy()
        num_past = _of_each(frames, lambda frame: len(history_indices(frame, self.num_history)))
        is_goal = samples["answer_class"].to_numpy() == AnswerKind.PIXEL_GOAL
        for chosen, rest in ((is_goal, self._goals), (~is_goal, self._others)):
            lengths[chosen] += rest(num_past[chosen], samples.filter(pa.array(chosen)))
        return lengths

    def _goals(self, num_past: np.ndarray, goals: pa.Table) -> np.ndarray:
        u, v = goals["goal_u"].to_numpy(), goals["goal_v"].to_numpy()
        columns = _of_each(u, lambda value: self._more(Answer.of_pixel(value, 0), ORIGIN))
        rows = _of_each(v, lambda value: self._more(Answer.of_pixel(0, value), ORIGIN))
        return _of_each(num_past, lambda past: self._count("", past, ORIGIN)) + columns + rows

    def _others(self, num_past: np.ndarray, others: pa.Table) -> np.ndarray:
        more = functools.cache(lambda actions: self._more(Answer.of_actions(actions), STOP))
        answers = [more(tuple(actions)) for actions in others["actions"].to_pylist()]
        return _of_each(num_past, lambda past: self._count("", past, STOP)) + np.array(answers, int)

    def _instruction(self, episodes: pa.Table, episode: int, index: int) -> int:
        words = episodes["instructions"][episode].as_py()[index]
        return self._count(words, 0, STOP) - self._count("", 0, STOP)

    def _more(self, answer: Answer, than: Answer) -> int:
        return self._count("", 0, answer) - self._count("", 0, than)

    def _count(self, instruction: str, num_past: int, answer: Answer) -> int:
        return self._with(self._longest, instruction, num_past, answer)

    @functools.cached_property
    def _longest(self) -> tuple[str, str]:
        """The conjunctions with the most tokens, before the view and before the look-down view."""
        first = max(CONJUNCTIONS, key=lambda words: self._with((words, ""), "", 0, STOP))
        return first, max(CONJUNCTIONS, key=lambda words: self._with(("", words), "", 0, ORIGIN))

    def _with(
        self, conjunctions: Sequence[str], instruction: str, num_past: int, answer: Answer
    ) -> int:
        looks_down = answer.kind == AnswerKind.PIXEL_GOAL
        sizes = [self.view_size] * (num_past + 1) + [self.look_down_size] * looks_down
        messages = training_messages(instruction, num_past, answer, conjunctions)
        return self.num_tokens(messages, sizes)


def _of_each(values: np.ndarray, count: Callable[[int], int]) -> np.ndarray:
    """`count` of each value, called once for each different one."""
    different, inverse = np.unique(values, return_inverse=True)
    return np.array([count(value) for value in different.tolist()], np.int64)[inverse]
