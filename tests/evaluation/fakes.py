"""Policies that answer by a rule, to see what evaluation makes of their answers."""

from collections.abc import Callable

from internnav_hf.models.system2.dialogue import Answer, AnswerKind
from internnav_hf.policies import Decision

LOOK_DOWN = Decision(AnswerKind.LOOK_DOWN, "↓")
STOP = Decision(AnswerKind.STOP, "STOP", actions=(0,))
LEFT = Decision(AnswerKind.TURN, "←", actions=(2,))
UNPARSABLE = Decision(AnswerKind.UNPARSABLE, "hm")


def point(u: float, v: float) -> Decision:
    return Decision(AnswerKind.PIXEL_GOAL, "↓", goal_pixel=(u, v))


def decision_of(answer: Answer) -> Decision:
    return Decision(answer.kind, answer.text, goal_pixel=answer.goal_pixel, actions=answer.actions)


class ScriptedPolicy:
    """`answer(image, instruction)` is the first answer, `goal(look_down_image)` the second."""

    def __init__(self, answer: Callable, goal: Callable | None = None):
        self.answer, self.goal = answer, goal
        self.batch_sizes: list[int] = []
        self.histories: list[int] = []

    def prepare(self, frame):
        return frame

    def decide(self, images, instruction, history=None, look_down=None, force_look_down=False):
        self.batch_sizes.append(len(images))
        self.histories += [len(past) for past in history or []]
        pairs = zip(images, instruction, strict=True)
        answers = [LOOK_DOWN if force_look_down else self.answer(*pair) for pair in pairs]
        asking = [i for i, a in enumerate(answers) if a.kind == AnswerKind.LOOK_DOWN]
        if look_down is None or not asking:
            return answers
        views = look_down(asking) if callable(look_down) else [look_down[i] for i in asking]
        for i, view in zip(asking, views, strict=True):
            answers[i] = self.goal(view)
        return answers
