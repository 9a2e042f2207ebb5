"""System2's language: every turn of the look-down protocol, built and parsed in this one place.

A decision is a dialogue. The robot shows its past and current images; System2 answers with turns,
`STOP`, or `↓`, a request for the look-down view. Given that view, it answers with the pixel `u v`
to walk to. Training and inference share this text. The published code formats the same dialogue in
two styles, and released weights work with both:

* style "training": blanks and line breaks around the images, the instruction verbatim before the
  sentence's own full stop;
* style "inference": pieces between images stripped, no line breaks, the instruction has its own
  full stop.

Pure Python: text in, text out. Sources: InternVLA-N1's training and evaluation texts as restated in
our reference dossier (prompts, labels, parse rules).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

PromptStyle = Literal["training", "inference"]

IMAGE = "<image>"  # stands for one image in a message; the processor turns it into vision tokens
JOINT = "\ufdd0"  # a non-character: the processor splits a text there, and no token spans it
IMAGE_TOKENS = "<|vision_start|><|image_pad|><|vision_end|>"
SYSTEM_PROMPT = "You are a helpful assistant."
TASK_PROMPT = (
    "You are an autonomous navigation assistant. Your task is to {instruction} "
    "Where should you go next to stay on track? "
    "Please output the next waypoint's coordinates in the image. "
    "Please output STOP when you have successfully completed the task."
)
HISTORY_PROMPT = "These are your historical observations: "
CONJUNCTIONS = (
    "you can see ",
    "in front of you is ",
    "there is ",
    "you can spot ",
    "you are toward the ",
    "ahead of you is ",
    "in your sight is ",
)

LOOK_DOWN = "↓"
# Discrete actions of VLN-CE by their symbol; 5 requests the look-down view.
ACTION_OF_SYMBOL = {"STOP": 0, "↑": 1, "←": 2, "→": 3, LOOK_DOWN: 5}
SYMBOL_OF_ACTION = {action: symbol for symbol, action in ACTION_OF_SYMBOL.items()}
_SYMBOLS = re.compile("|".join(map(re.escape, ACTION_OF_SYMBOL)))


class AnswerKind(IntEnum):
    """Kinds of answers; the first three are also the classes of a training sample
    (`answer_class`).
    """

    PIXEL_GOAL = 0
    TURN = 1
    STOP = 2
    LOOK_DOWN = 3
    UNPARSABLE = 4

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Answer:
    """One answer of System2.

    `goal_pixel` is (u, v) in pixels of the look-down image; `actions` are VLN-CE action numbers in
    order.
    """

    kind: AnswerKind
    goal_pixel: tuple[int, int] | None = None
    actions: tuple[int, ...] = ()

    @classmethod
    def of_pixel(cls, u: int, v: int) -> "Answer":
        """The goal at pixel (u, v) of the look-down image."""
        return cls(AnswerKind.PIXEL_GOAL, goal_pixel=(int(u), int(v)))

    @classmethod
    def of_actions(cls, actions: Iterable[int]) -> "Answer":
        """A turn, stop or look-down, given by its first action: (0,) stops, (5,) looks down,
        (2, 2, 0) turns.
        """
        actions = tuple(int(action) for action in actions)
        if not actions:
            raise ValueError("An answer by actions needs at least one action.")
        unknown = [action for action in actions if action not in SYMBOL_OF_ACTION]
        if unknown:
            raise ValueError(f"Unknown actions {unknown}; known are {sorted(SYMBOL_OF_ACTION)}.")
        first = SYMBOL_OF_ACTION[actions[0]]
        kind = {"STOP": AnswerKind.STOP, LOOK_DOWN: AnswerKind.LOOK_DOWN}.get(
            first, AnswerKind.TURN
        )
        return cls(kind, actions=actions)

    @property
    def text(self) -> str:
        """The answer's text: "u v", or the symbols of the actions without separators."""
        if self.goal_pixel is not None:
            return f"{self.goal_pixel[0]} {self.goal_pixel[1]}"
        return "".join(SYMBOL_OF_ACTION[action] for action in self.actions)


def parse_answer(text: str) -> Answer:
    """Read System2's text: two integers are a pixel goal, symbols are actions, anything else is
    UNPARSABLE.

    As published, any digit makes the answer a pixel goal and the first two integers are u and v;
    but one lone integer, which the published loop cannot use either, is UNPARSABLE here and not a
    guess.
    """
    numbers = re.findall(r"\d+", text)
    if numbers:
        if len(numbers) < 2:
            return Answer(AnswerKind.UNPARSABLE)
        return Answer.of_pixel(int(numbers[0]), int(numbers[1]))
    symbols = _SYMBOLS.findall(text)
    if not symbols:
        return Answer(AnswerKind.UNPARSABLE)
    return Answer.of_actions(ACTION_OF_SYMBOL[symbol] for symbol in symbols)


def first_user_message(
    instruction: str,
    num_history: int,
    conjunction: str = CONJUNCTIONS[0],
    style: PromptStyle = "training",
) -> dict[str, str]:
    """The question: task, `num_history` past images (oldest first), then the current one, as one
    user message. An instruction is always text, even if it contains special tokens.
    """
    if style == "training":
        task = TASK_PROMPT.format(instruction=f"{as_text(instruction)}.")
        history = f"{HISTORY_PROMPT}{(IMAGE + chr(10)) * num_history}. " if num_history else ""
        return _user(f"{task} {history}{conjunction}{IMAGE}.")
    task = TASK_PROMPT.format(instruction=as_text(instruction.strip()))
    history = f"{HISTORY_PROMPT}{IMAGE * num_history}. " if num_history else ""
    return _user(_strip_around_images(f"{task} {history}{conjunction}{IMAGE}."))


def as_text(words: str) -> str:
    """Escape `words` so that no image or special token is in them: all of these begin with "<"."""
    return words.replace(JOINT, "").replace("<", f"<{JOINT}")


def look_down_message(
    conjunction: str = CONJUNCTIONS[0], style: PromptStyle = "training"
) -> dict[str, str]:
    """The second question, after System2 answered `↓`: one look-down image."""
    content = f"{conjunction}{IMAGE}."
    return _user(content if style == "training" else _strip_around_images(content))


def training_messages(
    instruction: str,
    num_history: int,
    answer: Answer,
    conjunctions: Sequence[str] = CONJUNCTIONS[:1] * 2,
) -> list[dict[str, str]]:
    """The whole dialogue of one sample; a pixel goal takes two questions, a conjunction each."""
    messages = [first_user_message(instruction, num_history, conjunctions[0])]
    if answer.kind == AnswerKind.PIXEL_GOAL:
        messages += [_assistant(LOOK_DOWN), look_down_message(conjunctions[1])]
    return [*messages, _assistant(answer.text)]


def render_message(message: dict[str, str]) -> str:
    """One message in Qwen's chat format, with vision tokens for each image."""
    content = message["content"].replace(IMAGE, IMAGE_TOKENS)
    return f"{render_opening(message['role'])}{content}<|im_end|>\n"


def render_opening(role: str) -> str:
    """The text before a message's content; `render_opening("assistant")` prompts the model."""
    return f"<|im_start|>{role}\n"


def render(messages: Sequence[dict[str, str]], add_generation_prompt: bool = False) -> str:
    """The system turn and `messages` in Qwen's chat format."""
    system = {"role": "system", "content": SYSTEM_PROMPT}
    text = "".join(render_message(message) for message in (system, *messages))
    return text + render_opening("assistant") if add_generation_prompt else text


def render_continuation(message: dict[str, str]) -> str:
    """The text from one answer to the next: the end of the answer, the next question `message`, and
    the opening of the next answer.
    """
    return f"<|im_end|>\n{render_message(message)}{render_opening('assistant')}"


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def _strip_around_images(content: str) -> str:
    pieces = content.replace("\n", "").split(IMAGE)
    return IMAGE.join(piece.strip() for piece in pieces)
