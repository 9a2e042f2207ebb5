"""System2's decisions, parsed from its text."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from internnav_hf.models.system2.dialogue import Answer, AnswerKind, parse_answer


@dataclass(frozen=True)
class Decision:
    """A decision of System2.

    `goal_pixel` is (u, v) in pixels of the look-down image, `goal_confidence` in [0, 1] and
    `heatmap` (rows, columns) come from the head. `actions` are VLN-CE numbers. `text` is System2's
    output, in order. Kind LOOK_DOWN means that it requests the look-down view, UNPARSABLE that its
    `text` is not an answer. `plan` (Q, D) comes with a pixel goal from a policy with a planner.
    """

    kind: AnswerKind
    text: str
    goal_pixel: tuple[float, float] | None = None
    goal_confidence: float | None = None
    heatmap: np.ndarray | None = None
    actions: tuple[int, ...] = ()
    plan: Tensor | None = None


def first_decision(text: str) -> Decision:
    """The first turn's answer; a pixel is not an answer before the look-down view is shown."""
    answer = parse_answer(text)
    if answer.kind == AnswerKind.PIXEL_GOAL:
        return Decision(AnswerKind.UNPARSABLE, text)
    return decision_of(answer, text)


def decision_of(answer: Answer, text: str) -> Decision:
    """The decision for `answer`, which was parsed from System2's `text`."""
    return Decision(answer.kind, text, goal_pixel=answer.goal_pixel, actions=answer.actions)
