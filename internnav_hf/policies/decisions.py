"""What System2 decided, as its words say it."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from internnav_hf.models.system2.dialogue import Answer, AnswerKind, parse_answer


@dataclass(frozen=True)
class Decision:
    """What System2 decided.

    `goal_pixel` is (u, v) in pixels of the look-down image, `goal_confidence` in [0, 1] and
    `heatmap` (rows, columns) come from the head. `actions` are VLN-CE numbers. `text` is what
    System2 said, in order. Kind LOOK_DOWN means that it asks for the look-down view, UNPARSABLE
    that what it said, kept in `text`, is no answer. `plan` (Q, D) comes with a pixel goal from a
    policy with a planner.
    """

    kind: AnswerKind
    text: str
    goal_pixel: tuple[float, float] | None = None
    goal_confidence: float | None = None
    heatmap: np.ndarray | None = None
    actions: tuple[int, ...] = ()
    plan: Tensor | None = None


def first_decision(text: str) -> Decision:
    """The first turn's answer; a pixel before the view that it would point in is no answer."""
    answer = parse_answer(text)
    if answer.kind == AnswerKind.PIXEL_GOAL:
        return Decision(AnswerKind.UNPARSABLE, text)
    return decision_of(answer, text)


def decision_of(answer: Answer, text: str) -> Decision:
    """The decision that `answer`, which System2 gave by saying `text`, is."""
    return Decision(answer.kind, text, goal_pixel=answer.goal_pixel, actions=answer.actions)
