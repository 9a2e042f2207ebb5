"""System2 at inference: the look-down dialogue, and the plan that it leaves for an action expert.

Legend: H, W height and width of an image, Q query tokens of a plan, D width of System2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from internnav_hf.camera import resize_view
from internnav_hf.data.sampling import history_indices
from internnav_hf.models.dialogue import (
    LOOK_DOWN,
    Answer,
    AnswerKind,
    first_user_message,
    look_down_message,
    parse_answer,
    render,
    render_continuation,
)
from internnav_hf.models.image_tokens import ImageTokens
from internnav_hf.models.system2 import HUB_ARGUMENTS, System2Model, is_plain_vlm
from internnav_hf.models.system2_processor import System2Processor
from internnav_hf.models.system2_session import System2Session

Frame = Image.Image | np.ndarray  # RGB, (H, W, 3) uint8
AnswerWith = Literal["head", "text"]
Planner = Callable[[System2Session], Tensor]  # dialogues with a goal -> plans (B, Q, D)

# What stands between the goal's words and the query tokens: the published training and the
# published inference differ by a line break.
PLAN_OPENING = {"training": "<|im_end|>\n", "inference": "<|im_end|>"}


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


class FrameHistory:
    """The past frames of an episode, prepared, oldest first in `frames`.

    There are never more than `limit`: then every second one is forgotten, and from there on only
    every second one (the fourth, ...) is kept. Up to `limit` frames nothing is lost.
    """

    def __init__(self, limit: int = 512):
        self.limit = limit
        self.frames: list[Image.Image] = []
        self._stride, self._num_seen = 1, 0

    def append(self, frame: Image.Image) -> None:
        """The next frame, in the size in which System2 is shown it."""
        if self._num_seen % self._stride == 0:
            self.frames.append(frame)
        self._num_seen += 1
        if len(self.frames) > self.limit:
            self.frames = self.frames[::2]
            self._stride *= 2


class System2Policy:
    """System2 through the look-down protocol, for one robot (`reset`, `act`) or a batch of them
    (`decide`).

    `answer_with` says where goals come from: the pixel-goal head (the default where the model has
    one) or the text. With `planner`, every pixel goal brings a plan, made on the same key-value
    cache; the head's goal is put into System2's mouth for it, in the words that training shows.
    """

    def __init__(
        self,
        model: System2Model,
        processor: System2Processor,
        answer_with: AnswerWith | None = None,
        max_new_tokens: int = 32,  # a pixel goal takes 9; the published limit is 128
        planner: Planner | None = None,
    ):
        self.model = model.eval()
        self.processor = processor
        has_head = model.config.use_pixel_goal_head
        if answer_with == "head" and not has_head:
            raise ValueError("This System2 has no pixel-goal head: use answer_with='text'.")
        self.answer_with = answer_with or ("head" if has_head else "text")
        self.max_new_tokens = max_new_tokens
        self.planner = planner
        self.reset("")

    @classmethod
    def from_pretrained(
        cls, path, answer_with: AnswerWith | None = None, **kwargs
    ) -> "System2Policy":
        """Model and processor from a folder or Hub repository; `kwargs` go to the model's loading.

        Released System2s, which are plain Qwen-VLs, are asked in the published words of inference.
        """
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        style = {"prompt_style": "inference"} if is_plain_vlm(path, **hub) else {}
        processor = System2Processor.from_pretrained(path, **style, **hub)
        return cls(System2Model.from_pretrained(path, **kwargs), processor, answer_with)

    def reset(self, instruction: str) -> None:
        """Start an episode: forget all frames."""
        self.instruction = instruction
        self._history = FrameHistory()
        self._waiting: System2Session | None = None

    def observe(self, rgb: Frame) -> None:
        """Remember a frame that no decision is asked for; history is sampled from all frames of the
        episode.
        """
        self._history.append(self.prepare(rgb))

    def act(self, observation: dict[str, Frame]) -> Decision:
        """Decide from `observation["rgb"]`; on kind LOOK_DOWN call again with
        `observation["rgb_look_down"]`.

        If the observation brings both views, one call is enough.
        """
        look_down = observation.get("rgb_look_down")
        if self._waiting is not None:
            if look_down is None:
                raise ValueError(
                    "System2 asked for the look-down view: pass it as observation['rgb_look_down']."
                )
            session, self._waiting = self._waiting, None
            return self._goals(session, [look_down])[0]
        views = None if look_down is None else [look_down]
        decisions, session = self._ask(
            [observation["rgb"]], [self.instruction], [self._history.frames], views, False
        )
        if decisions[0].kind == AnswerKind.LOOK_DOWN:
            self._waiting = session
        self.observe(observation["rgb"])
        return decisions[0]

    def decide(
        self,
        images: Any,
        instruction: Any,
        history: Any = None,
        look_down: Any = None,
        force_look_down: bool = False,
    ) -> Any:
        """One decision for each current frame, its instruction and its past frames (oldest first).

        Lists give a list of decisions, a single instruction a single one. Of longer histories,
        `num_history` frames are taken as in training. `look_down` holds the look-down views, or is
        a function that renders them for the indices that ask; without it, asking is the answer
        (kind LOOK_DOWN). `force_look_down` puts "↓" in System2's mouth.
        """
        single = isinstance(instruction, str)
        if single:
            images, instruction, history = [images], [instruction], [history or []]
            look_down = look_down if look_down is None or callable(look_down) else [look_down]
        history = history if history is not None else [[] for _ in images]
        if not len(images) == len(instruction) == len(history):
            raise ValueError(
                f"{len(images)} images, {len(instruction)} instructions and {len(history)} "
                "histories do not match."
            )
        if not len(images):
            return []
        decisions, _ = self._ask(images, instruction, history, look_down, force_look_down)
        return decisions[0] if single else decisions

    def _ask(
        self, images, instructions, histories, look_down, force: bool
    ) -> tuple[list[Decision], System2Session]:
        style = self.processor.prompt_style
        segments = []
        for image, instruction, past in zip(images, instructions, histories, strict=True):
            shown = [
                past[index] for index in history_indices(len(past), self.processor.num_history)
            ]
            frames = [self.prepare(frame) for frame in (*shown, image)]
            message = first_user_message(instruction, len(shown), style=style)
            text = render([message], add_generation_prompt=True) + (LOOK_DOWN if force else "")
            segments.append(self.processor.encode_text(text, frames))
        session = System2Session(self.model)
        session.extend(segments)
        texts = [LOOK_DOWN] * len(images) if force else self._generate(session)
        decisions = [_first_decision(text) for text in texts]
        asking = [
            row for row, decision in enumerate(decisions) if decision.kind == AnswerKind.LOOK_DOWN
        ]
        if asking and look_down is not None:
            views = look_down(asking) if callable(look_down) else [look_down[row] for row in asking]
            goals = self._goals(session.select(asking), views)
            for row, goal in zip(asking, goals, strict=True):
                decisions[row] = goal
        return decisions, session

    def _goals(self, session: System2Session, views: Sequence[Frame]) -> list[Decision]:
        """The second turn, on the cache of the first: show the look-down views, read the goals."""
        text = render_continuation(look_down_message(style=self.processor.prompt_style))
        frames = [self._look_down_frame(view) for view in views]
        images = session.extend([self.processor.encode_text(text, [frame]) for frame in frames])
        if self.answer_with == "text":
            texts = self._generate(session)
            decisions = [self._checked(parse_answer(t), f"{LOOK_DOWN} {t}") for t in texts]
        else:
            decisions = self._read_head(session, images)
        return self._with_plans(session, decisions)

    def _with_plans(self, session: System2Session, decisions: list[Decision]) -> list[Decision]:
        """The pixel goals among `decisions` with plans, on the cache that holds their dialogues."""
        rows = [row for row, d in enumerate(decisions) if d.kind == AnswerKind.PIXEL_GOAL]
        if self.planner is None or not rows:
            return decisions
        session.select(rows)
        opening = PLAN_OPENING[self.processor.prompt_style]
        spoken = self.answer_with == "text"  # then the words are in the cache already
        words = ["" if spoken else self._goal_words(decisions[row]) for row in rows]
        session.extend([self.processor.encode_text(text + opening, []) for text in words])
        decisions = list(decisions)
        for row, plan in zip(rows, self.planner(session), strict=True):
            decisions[row] = replace(decisions[row], plan=plan)
        return decisions

    def _goal_words(self, decision: Decision) -> str:
        """The nearest whole pixel of the image, as System2's training writes it."""
        size = (self.model.config.image_width, self.model.config.image_height)
        pairs = zip(decision.goal_pixel, size, strict=True)
        return Answer.of_pixel(*(min(round(p), s - 1) for p, s in pairs)).text

    def _read_head(self, session: System2Session, images: ImageTokens) -> list[Decision]:
        goals, confidences, heatmaps, _, _ = self.model.goal_from(session.last_hidden, images)
        decisions = []
        for row, goal in enumerate(goals.tolist()):
            heatmap = heatmaps[row, : int(images.rows[row]), : int(images.columns[row])]
            decisions.append(
                Decision(
                    AnswerKind.PIXEL_GOAL,
                    text=LOOK_DOWN,
                    goal_pixel=(goal[0], goal[1]),
                    goal_confidence=float(confidences[row]),
                    heatmap=heatmap.float().cpu().numpy(),
                )
            )
        return decisions

    def _generate(self, session: System2Session) -> list[str]:
        tokenizer = self.processor.tokenizer
        ends = {
            tokenizer.eos_token_id,
            tokenizer.convert_tokens_to_ids("<|im_end|>"),
            tokenizer.pad_token_id,
        }
        answers = session.generate(ends, self.max_new_tokens)
        return [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]

    def _checked(self, answer: Answer, text: str) -> Decision:
        """A goal outside the image is no answer; nor is asking for the view that is shown."""
        size = (self.model.config.image_width, self.model.config.image_height)
        outside = answer.goal_pixel is not None and any(
            p >= s for p, s in zip(answer.goal_pixel, size, strict=True)
        )
        if outside or answer.kind == AnswerKind.LOOK_DOWN:
            return Decision(AnswerKind.UNPARSABLE, text)
        return _decision(answer, text)

    def _look_down_frame(self, view: Frame) -> Image.Image:
        """As it is: goals are pixels of it, and the model learnt them for one size."""
        frame = _image(view)
        size = (self.model.config.image_width, self.model.config.image_height)
        if frame.size != size:
            raise ValueError(
                f"The look-down view is {frame.size[0]}x{frame.size[1]}, but this System2 was "
                f"trained for {size[0]}x{size[1]}: resize it, and scale the goals back."
            )
        return frame

    def prepare(self, frame: Frame) -> Image.Image:
        """A past or current frame in the size and with the filter of the prompt style, as histories
        keep it; one that is prepared stays as it is.
        """
        published = self.processor.prompt_style == "inference"
        resample = Image.Resampling.BICUBIC if published else Image.Resampling.BILINEAR
        return resize_view(_image(frame), self.processor.history_size, resample)


def _image(frame: Frame) -> Image.Image:
    return frame if isinstance(frame, Image.Image) else Image.fromarray(np.asarray(frame))


def _first_decision(text: str) -> Decision:
    """The first turn's answer; a pixel before the view that it would point in is no answer."""
    answer = parse_answer(text)
    if answer.kind == AnswerKind.PIXEL_GOAL:
        return Decision(AnswerKind.UNPARSABLE, text)
    return _decision(answer, text)


def _decision(answer: Answer, text: str) -> Decision:
    return Decision(answer.kind, text, goal_pixel=answer.goal_pixel, actions=answer.actions)
