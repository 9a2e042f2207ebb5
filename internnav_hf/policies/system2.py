"""System2 at inference: the look-down dialogue, and the plan for an action expert.

Legend: H, W height and width of an image, Q query tokens of a plan, D width of System2.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from internnav_hf.camera import CameraSpec, resize_view
from internnav_hf.data.tasks.system2_sampling import history_indices
from internnav_hf.models.system2.config import System2Config
from internnav_hf.models.system2.dialogue import (
    LOOK_DOWN,
    Answer,
    AnswerKind,
    first_user_message,
    look_down_message,
    parse_answer,
    render,
    render_continuation,
)
from internnav_hf.models.system2.image_tokens import ImageTokens
from internnav_hf.models.system2.model import System2Model, is_plain_vlm
from internnav_hf.models.system2.processor import System2Processor
from internnav_hf.models.system2.session import System2Session
from internnav_hf.policies.camera_contract import TWO_VIEWS, CameraContract
from internnav_hf.policies.decisions import Decision, decision_of, first_decision
from internnav_hf.policies.episodes import FrameHistory, check_count, undone_on_error
from internnav_hf.policies.loading import split_settings
from internnav_hf.policies.observations import (
    Frame,
    as_image,
    check_lists,
    check_parts,
    checked_batch,
    checked_instruction,
    checked_keys,
    checked_picture,
    place_of,
    size_of,
)
from internnav_hf.policies.policy import InstructionPolicy
from internnav_hf.weights.checkpoints import hub_arguments

VIEWS = ("rgb", "rgb_look_down")
AnswerWith = Literal["head", "text"]
Planner = Callable[[System2Session], Tensor]  # dialogues with a goal -> plans (B, Q, D)

# Text between the goal and the query tokens: the published training and the published inference
# differ by a line break.
PLAN_OPENING = {"training": "<|im_end|>\n", "inference": "<|im_end|>"}


@dataclass
class System2Episode:
    """The policy's memory of one robot, made by `start`; `waiting` is the dialogue in which System2
    requested the look-down view.
    """

    instruction: str
    history: FrameHistory = field(default_factory=FrameHistory)
    waiting: System2Session | None = None


class System2Policy(InstructionPolicy):
    """System2 through the look-down protocol, for one robot (`reset`, `act`) or many (`start`,
    `steps`; or `decide`, which keeps nothing). An observation has `rgb`; after a decision of kind
    LOOK_DOWN the next one has `rgb_look_down`. If it has both views, one call is enough.

    `answer_with` is the source of goals: the pixel-goal head (the default if the model has one) or
    the text. With `planner`, every pixel goal has a plan, made on the same key-value cache; for it
    the head's goal is appended as System2's answer, in the text format of training.

    `camera` is the robot's: differences from the training's (`cameras`) are reported once, and are
    a ValueError with `strict_camera`. An episode may go on after STOP, which is advice.
    """

    def __init__(
        self,
        model: System2Model,
        processor: System2Processor,
        answer_with: AnswerWith | None = None,
        max_new_tokens: int = 32,  # a pixel goal takes 9; the published limit is 128
        planner: Planner | None = None,
        camera: CameraSpec | None = None,
        strict_camera: bool = False,
    ):
        name = type(self).__name__
        check_parts(name, model, [System2Config.model_type], processor)
        self.model = model.eval()
        self.processor = processor
        has_head = model.config.use_pixel_goal_head
        if answer_with not in (None, "head", "text"):
            raise ValueError(f"answer_with: found {answer_with!r}, expected 'head' or 'text'.")
        if answer_with == "head" and not has_head:
            raise ValueError("This System2 has no pixel-goal head: use answer_with='text'.")
        check_count("max_new_tokens", max_new_tokens)
        self.answer_with = answer_with or ("head" if has_head else "text")
        self.max_new_tokens = max_new_tokens
        self.planner = planner
        self.contract = CameraContract(name, self.cameras, camera, strict_camera, TWO_VIEWS)

    @classmethod
    def from_pretrained(cls, path, **kwargs) -> "System2Policy":
        """Model and processor from a folder or Hub repository; `kwargs` are settings of the policy
        and arguments of the model's loading.

        Released System2s, which are plain Qwen-VLs, get the published prompts of inference.
        """
        hub = hub_arguments(kwargs)
        style = {"prompt_style": "inference"} if is_plain_vlm(path, **hub) else {}
        processor = System2Processor.from_pretrained(path, **style, **hub)
        settings, kwargs = split_settings(cls, kwargs)
        model = System2Model.from_pretrained(path, **kwargs)
        return cls(model, processor, **settings)

    def observe(self, rgb: Frame) -> None:
        """Store a frame without a decision; history is sampled from all frames of the episode."""
        checked_batch(self.contract.policy, System2Episode, [self.episode])
        self.episode.history.append(self.prepare(rgb))

    def start(self, instruction: str, name: str = "") -> System2Episode:
        """A new episode; System2 draws no random numbers, whatever the `name`."""
        return System2Episode(checked_instruction(instruction, self.contract.policy))

    def steps(
        self, episodes: Sequence[System2Episode], observations: Sequence[dict[str, Frame]]
    ) -> list[Decision]:
        """A decision for each robot; robots whose observations have both views share a batch."""
        name, count = self.contract.policy, len(observations)
        checked_batch(name, System2Episode, episodes, observations=observations)
        pairs = enumerate(zip(episodes, observations, strict=True))
        seen = [self._seen(*pair, place_of(name, row, count)) for row, pair in pairs]
        both = [i for i, e in enumerate(episodes) if not e.waiting and "rgb_look_down" in seen[i]]
        found: dict[int, Decision] = {}
        with undone_on_error(episodes):
            for rows in (both, *([i] for i in range(count) if i not in both)):
                decided = self._answered([episodes[i] for i in rows], [seen[i] for i in rows])
                found |= dict(zip(rows, decided, strict=True))
        return [found[row] for row in range(count)]

    def _seen(self, episode: System2Episode, observation: Any, where: str) -> dict[str, Frame]:
        seen = self.checked(observation, where, needed=() if episode.waiting else ("rgb",))
        if episode.waiting and "rgb_look_down" not in seen:
            raise ValueError(
                f"{where}: System2 asked for the look-down view: pass it as "
                "observation['rgb_look_down']."
            )
        return seen

    def _answered(self, episodes: list[System2Episode], seen: list[dict]) -> list[Decision]:
        """Decisions of robots that all have both views, or of a single robot."""
        if not episodes:
            return []
        first, views = episodes[0], [one.get("rgb_look_down") for one in seen]
        if first.waiting is not None:
            with first.waiting.undone_on_error():
                decisions = self._goals(first.waiting, views)
            first.waiting = None
            return decisions
        words, histories = zip(*((e.instruction, e.history.frames) for e in episodes), strict=True)
        look_down = None if views[0] is None else views
        decisions, session = self._ask([s["rgb"] for s in seen], words, histories, look_down, False)
        if decisions[0].kind == AnswerKind.LOOK_DOWN and look_down is None:
            first.waiting = session
        for episode, one in zip(episodes, seen, strict=True):
            episode.history.append(self.prepare(one["rgb"]))
        return decisions

    def checked(
        self, observation: Any, where: str, needed: Sequence[str] = ("rgb",)
    ) -> dict[str, Frame]:
        """The views of an observation, RGB, those that are `needed` and those that are there;
        ValueError, which begins with `where`, for invalid ones.
        """
        checked_keys(observation, where, needed, VIEWS)
        given = [key for key in VIEWS if observation.get(key) is not None]
        seen = {key: checked_picture(observation[key], f"{where}: {key}") for key in given}
        if "rgb_look_down" in seen:
            self._check_look_down(seen["rgb_look_down"], f"{where}: rgb_look_down")
        self._check_views(seen.items())
        return seen

    def _check_views(self, views: Iterable[tuple[str, Frame]]) -> None:
        """Check the views, except for frames that were prepared by the caller."""
        prepared = self.processor.history_size
        self.contract.check_views([view for view in views if size_of(view[1]) != prepared])

    def decide(
        self,
        images: Any,
        instruction: Any,
        history: Any = None,
        look_down: Any = None,
        force_look_down: bool = False,
    ) -> Any:
        """One decision for each current frame, its instruction and its past frames (oldest first).

        Lists give a list of decisions, a single instruction a single one. From longer histories,
        `num_history` frames are taken as in training. `look_down` holds the look-down views, or is
        a function that renders them for the requested indices; without it, the request is the
        answer (kind LOOK_DOWN). With `force_look_down` the answer "↓" is forced.
        """
        single = isinstance(instruction, str | bytes) or not isinstance(instruction, Sequence)
        past = [] if history is None else history
        if single:
            images, instruction, history = [images], [instruction], [past]
            look_down = look_down if look_down is None or callable(look_down) else [look_down]
        check_lists(self.contract.policy, images=images, history=past)
        history = history if history is not None else [[] for _ in images]
        for frames in history:
            check_lists(self.contract.policy, history=frames)
        counts = len(images), len(instruction), len(history)
        if len(set(counts)) > 1:
            told = "{} images, {} instructions and {} histories".format(*counts)
            raise ValueError(f"{told} do not match.")
        if not len(images):
            return []
        images, look_down = self._checked_questions(images, instruction, look_down)
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
        decisions = [first_decision(text) for text in texts]
        asking = [
            row for row, decision in enumerate(decisions) if decision.kind == AnswerKind.LOOK_DOWN
        ]
        if asking and look_down is not None:
            views = look_down(asking) if callable(look_down) else [look_down[row] for row in asking]
            check_lists(self.contract.policy, look_down=views)
            if (found := len(views)) != len(asking):
                raise ValueError(f"look_down: found {found} views, expected {len(asking)}.")
            goals = self._goals(session.select(asking), views)
            for row, goal in zip(asking, goals, strict=True):
                decisions[row] = goal
        return decisions, session

    def _goals(self, session: System2Session, views: Sequence[Frame]) -> list[Decision]:
        """The second turn, on the cache of the first: look-down views in, goals out."""
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
        spoken = self.answer_with == "text"  # then the text is in the cache already
        words = ["" if spoken else self._goal_words(decisions[row]) for row in rows]
        session.extend([self.processor.encode_text(text + opening, []) for text in words])
        decisions = list(decisions)
        for row, plan in zip(rows, self.planner(session), strict=True):
            decisions[row] = replace(decisions[row], plan=plan)
        return decisions

    def _goal_words(self, decision: Decision) -> str:
        """The nearest whole pixel of the image, in the text format of System2's training."""
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
        """A goal outside the image is not an answer, nor is a request for a view already shown."""
        size = (self.model.config.image_width, self.model.config.image_height)
        outside = answer.goal_pixel is not None and any(
            p >= s for p, s in zip(answer.goal_pixel, size, strict=True)
        )
        if outside or answer.kind == AnswerKind.LOOK_DOWN:
            return Decision(AnswerKind.UNPARSABLE, text)
        return decision_of(answer, text)

    def _checked_questions(self, images, instructions, look_down) -> tuple[list[Frame], Any]:
        """Views and instructions of `decide`, checked; rendered views are checked when rendered."""
        name, count = self.contract.policy, len(images)
        if look_down is not None and not callable(look_down) and len(look_down) != count:
            found = f"{count} images and {len(look_down)} look-down views"
            raise ValueError(f"{name}: {found} do not match.")
        given, seen = {"rgb": images}, {}
        if look_down is not None and not callable(look_down):
            given["rgb_look_down"] = look_down
        for row, instruction in enumerate(instructions):
            checked_instruction(instruction, place_of(name, row, count))
        for key, views in given.items():
            places = [f"{place_of(name, row, count)}: {key}" for row in range(count)]
            seen[key] = [checked_picture(*pair) for pair in zip(views, places, strict=True)]
            self._check_views((key, view) for view in seen[key])
        for row, view in enumerate(seen.get("rgb_look_down", ())):
            self._check_look_down(view, f"{place_of(name, row, count)}: rgb_look_down")
        return seen["rgb"], seen.get("rgb_look_down", look_down)

    def _look_down_frame(self, view: Frame) -> Image.Image:
        """The view, not resized: goals are its pixels, and the model was trained for one size."""
        where = f"{self.contract.policy}: rgb_look_down"
        view = checked_picture(view, where)
        self._check_look_down(view, where)
        return as_image(view)

    def _check_look_down(self, view: Frame, where: str) -> None:
        found, size = size_of(view), (self.model.config.image_width, self.model.config.image_height)
        if found != size:
            raise ValueError(
                f"{where}: the look-down view is {found[0]}x{found[1]}, but this System2 was "
                f"trained for {size[0]}x{size[1]}: resize it, and scale the goals back."
            )

    def prepare(self, frame: Frame) -> Image.Image:
        """A past or current frame in the size and with the filter of the prompt style, as in a
        history; a prepared frame is unchanged.
        """
        published = self.processor.prompt_style == "inference"
        resample = Image.Resampling.BICUBIC if published else Image.Resampling.BILINEAR
        image = as_image(checked_picture(frame, f"{self.contract.policy}: rgb"))
        return resize_view(image, self.processor.history_size, resample)
