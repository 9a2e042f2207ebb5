"""System2's samples: an instruction, what was seen, what is seen, and the expert's answer as a
dialogue.

Differs from the published loader: only the frames that a sample shows are opened (it opens colour
and depth of every frame up to the end), the order and the `%N` subsets are the same on every rank,
and depth files are not needed.

L tokens of a sample, B batch.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from PIL import Image

from internnav_hf.camera import CameraSpec, resize_view
from internnav_hf.data.formats.registry import Reader, dataset_names
from internnav_hf.data.index import DEFAULT_CACHE
from internnav_hf.data.readers.images import augment as augment_image
from internnav_hf.data.readers.images import open_mask
from internnav_hf.data.rows import EpisodeRow
from internnav_hf.data.tables import row_of
from internnav_hf.data.tasks.common import DEPTH, SYSTEM2, EpisodeDataset, Task
from internnav_hf.data.tasks.system2_datasets import open_datasets
from internnav_hf.data.tasks.system2_lengths import DialogueLengths
from internnav_hf.data.tasks.system2_sampling import SamplingRules, history_indices
from internnav_hf.models.system2.dialogue import CONJUNCTIONS, Answer, AnswerKind, training_messages

IGNORED_LABEL = -100
NUM_HISTORY = 8
HISTORY_SIZE = (384, 384)


class Encoder(Protocol):
    """Protocol of the part of `System2Processor` that the dataset uses."""

    num_history: int
    history_size: Sequence[int]  # (width, height) of past and current frames

    def encode(
        self, messages: list[dict[str, str]], images: list[Image.Image]
    ) -> dict[str, np.ndarray]:
        """Token ids, labels and pixel values of one dialogue."""
        ...

    def num_tokens(self, messages: list[dict[str, str]], sizes: Sequence[Sequence[int]]) -> int:
        """Number of those token ids, for images of `sizes` (width, height)."""
        ...


@dataclass(eq=False, repr=False)
class System2Dataset(EpisodeDataset):
    """Decisions of the named datasets as a map-style dataset.

    `data_root` holds a folder per dataset (`r2r/`, `rxr/`, ...), each with a folder per scene.
    `datasets` names those of `vln_ce` with their camera, comma separated:
    `r2r_125cm_0_30,rxr_60cm_15_15%30`, where `%30` keeps a seeded 30 % of the samples; those of
    other formats by their folder, `r2r%30`, or all of `data_root` by a registered format's name.

    Without `processor` an item is `images` (PIL, in the order of the messages), `messages`, and the
    targets `goal_pixel` (2,) float32 in the look-down image, `goal_mask`, `answer_class` (0 pixel
    goal, 1 turn, 2 stop); with `landmarks`, where the dataset has them, `landmark_mask` (rows,
    columns) in [0, 1]. With it, `processor.encode` replaces the first two.

    The ordinary view and its history are resized to `history_size` (width, height); the look-down
    image keeps its size. Episodes without depth images count as broken if `needs_depth`, though
    System2 sees none. `num_history` and `history_size` are the processor's, or the published 8
    and (384, 384).

    Pixel goals that the data do not store, as in `vln_pe`, follow from poses, depth and camera
    (`data.pixel_goals`). `camera` is that of data that record none.
    """

    data_root: str | Path
    datasets: str | Iterable[str] = "r2r_125cm_0_30"
    processor: Encoder | None = None
    seed: int = 0
    num_history: int | None = None
    history_size: Sequence[int] | None = None
    sample_step: int = 4
    num_future_steps: int = 4
    stop_repeat: int = 5
    pixel_goal_only: bool = False
    needs_depth: bool = False
    augment: bool = False
    landmarks: bool = False
    max_broken_fraction: float = 0.01
    cache_dir: str | Path | None = None
    camera: CameraSpec | None = None
    task: ClassVar[Task] = SYSTEM2

    def __post_init__(self):
        self.data_root, processor = Path(self.data_root), self.processor
        self.data_roots = [self.data_root]
        self.num_history = _agreed("num_history", self.num_history, processor, NUM_HISTORY)
        size = _agreed("history_size", self.history_size, processor, HISTORY_SIZE)
        self.history_size = tuple(size)
        self.names = dataset_names(self.data_root, self.datasets)
        found = open_datasets(
            replace(self.task, needed=(*self.task.needed, *DEPTH * self.needs_depth)),
            Reader(self.task.native, Path(self.cache_dir or DEFAULT_CACHE), self.needs_depth),
            self.data_root,
            self.names,
            SamplingRules(
                self.sample_step, self.num_future_steps, self.stop_repeat, self.pixel_goal_only
            ),
            self.seed,
            self.max_broken_fraction,
            self.camera,
        )
        self.image_size, self._cameras = found.image_size, found.cameras
        self.episodes, self.samples = found.episodes, found.samples
        self.camera = next(iter(self.cameras), None)
        masks = self.episodes.select({"landmark_file"} & {*self.episodes.column_names})
        if self.landmarks and all(column.null_count == len(column) for column in masks.columns):
            raise ValueError(
                f"landmarks were asked for, but no episode of {self.datasets} in {self.data_root}"
                " has observation.images.landmark.*; scripts/make_dataset.py --landmarks writes"
                " them."
            )

    @property
    def cameras(self) -> list[CameraSpec]:
        """All cameras, in the order of the datasets."""
        return [camera for cameras in self._cameras for camera in cameras]

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """(samples,) tokens of each dialogue at most, known without its images."""
        if self.processor is None:
            raise ValueError("lengths: found no processor, expected one, which knows the tokens.")
        views = (self.num_history, self.history_size, self.image_size)
        count = DialogueLengths(self.processor.num_tokens, *views)
        return count.of(self.samples, self.episodes)

    def _group(self, row: Mapping[str, Any]) -> str:
        return str(self.names[row["dataset"]])

    def __len__(self) -> int:
        return self.samples.num_rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._item(index, {})

    def _item(self, index: int, opened: dict[tuple, Image.Image]) -> dict[str, Any]:
        """`opened` receives every decoded image, by its file and frame."""
        sample, episode = self._row(index)
        rng = np.random.default_rng((self.seed, self.epoch, self._position(index)))
        conjunctions = [CONJUNCTIONS[i] for i in rng.integers(len(CONJUNCTIONS), size=2)]
        history = self._history(sample)
        frames = [*history, sample["frame_index"]]
        images = [open_once(episode, frame, opened, "ordinary") for frame in frames]
        if self.augment:
            images = [augment_image(image, rng) for image in images]
        images = [resize_view(image, self.history_size) for image in images]
        if sample["answer_class"] == AnswerKind.PIXEL_GOAL:
            images.append(open_once(episode, sample["frame_index"], opened))
        instruction = episode["instructions"][sample["instruction_index"]]
        messages = training_messages(instruction, len(history), _answer(sample), conjunctions)
        targets = self._targets(sample, episode)
        if self.processor is None:
            return {"images": images, "messages": messages, **targets}
        return {**self.processor.encode(messages, images), **targets}

    def decision(self, index: int) -> dict[str, Any]:
        """Return the input of a policy: unaugmented images, always with the look-down view, and the
        right answer.

        `instruction`, `history` (list of images), `image`, `look_down`, `answer_class`,
        `goal_pixel` (u, v) or None, `actions`.
        """
        sample, episode = self._row(index)
        frame = sample["frame_index"]
        return {
            "instruction": episode["instructions"][sample["instruction_index"]],
            "history": [episode.image(f, "ordinary") for f in self._history(sample)],
            "image": episode.image(frame, "ordinary"),
            "look_down": episode.image(frame),
            "answer_class": sample["answer_class"],
            "goal_pixel": _goal_pixel(sample),
            "actions": tuple(sample["actions"]),
        }

    def where(self, index: int) -> str:
        """Origin of a sample, for messages."""
        sample, episode = self._row(index)
        return f"{episode}, frame {sample['frame_index']}"

    def _row(self, index: int) -> tuple[dict[str, Any], EpisodeRow]:
        sample = row_of(self.samples, self._position(index))
        return sample, self._episode(sample["episode"])

    def _history(self, sample: dict[str, Any]) -> list[int]:
        return history_indices(sample["frame_index"], self.num_history).tolist()

    def _targets(self, sample: dict[str, Any], episode: EpisodeRow) -> dict[str, Any]:
        goal = _goal_pixel(sample)
        targets = {
            "goal_pixel": np.array(goal or (0, 0), np.float32),
            "goal_mask": goal is not None,
            "answer_class": sample["answer_class"],
        }
        if self.landmarks and episode["landmark_file"]:
            targets["landmark_mask"] = open_mask(episode.file("landmark", sample["frame_index"]))
            # The mask is the look-down view's; with one pitch it fits the current view as well.
            one_pitch = episode["ordinary_file"] == episode["rgb_file"]
            targets["num_landmark_images"] = int(goal is not None) + int(one_pitch)
        return targets


class System2Collator:
    """Encoded samples to one batch; sequences are padded on the right.

    Two samples, a pixel goal and a stop with one history frame each, at 384x384 and 640x480 pixels:

        input_ids          (2, 899)      int64    padded with pad_token_id
        attention_mask     (2, 899)      int64    1 on tokens, 0 on padding
        labels             (2, 899)      int64    -100 wherever nothing is learnt
        mm_token_type_ids  (2, 899)      int64    1 on image tokens
        pixel_values       (4700, 1176)  float32  patches of all images, one after the other
        image_grid_thw     (5, 3)        int64    [1, 28, 28] twice, [1, 34, 46], [1, 28, 28] twice
        goal_pixel         (2, 2)        float32  [[330, 371], [0, 0]] in the look-down image
        goal_mask          (2,)          bool     [True, False]
        answer_class       (2,)          int64    [0, 2]

    and, if a sample brings a `landmark_mask`, that as (2, rows, columns) and
    `num_landmark_images` (2,): it belongs to so many of the sample's last images.
    """

    padding = {"labels": IGNORED_LABEL, "mm_token_type_ids": 0}

    def __init__(self, pad_token_id: int):
        self.pad_token_id = pad_token_id

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The keys are the arguments of `System2Model.forward`."""
        for position, sample in enumerate(samples):
            _check_encoded(position, sample)
        lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
        batch = {
            "input_ids": self._pad(samples, "input_ids", self.pad_token_id),
            "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
            **{key: self._pad(samples, key, value) for key, value in self.padding.items()},
        }
        for key in ("pixel_values", "image_grid_thw"):
            batch[key] = torch.cat([torch.as_tensor(sample[key]) for sample in samples])
        batch["goal_pixel"] = torch.stack([torch.as_tensor(s["goal_pixel"]) for s in samples])
        batch["goal_mask"] = torch.tensor([bool(sample["goal_mask"]) for sample in samples])
        batch["answer_class"] = torch.tensor([int(sample["answer_class"]) for sample in samples])
        return batch | _stack_landmarks(samples)

    def _pad(self, samples: Sequence[dict[str, Any]], key: str, value: int) -> torch.Tensor:
        rows = [torch.as_tensor(sample[key], dtype=torch.long) for sample in samples]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def open_once(
    episode: EpisodeRow, frame: int, opened: dict[tuple, Image.Image], kind: str = "rgb"
) -> Image.Image:
    """With a camera of one pitch the look-down image is the current one."""
    key = episode.file(kind, frame), frame
    if key not in opened:
        opened[key] = episode.image(frame, kind)
    return opened[key]


def _goal_pixel(sample: dict[str, Any]) -> tuple[int, int] | None:
    is_goal = sample["answer_class"] == AnswerKind.PIXEL_GOAL
    return (sample["goal_u"], sample["goal_v"]) if is_goal else None


def _answer(sample: dict[str, Any]) -> Answer:
    kind = AnswerKind(sample["answer_class"])
    return Answer(kind, _goal_pixel(sample), tuple(sample["actions"]))


def _agreed(key: str, given: Any, processor: Encoder | None, published: Any) -> Any:
    """Return the argument, which must not contradict the processor."""
    if processor is None:
        return published if given is None else given
    stored = getattr(processor, key)
    if given is not None and tuple(np.atleast_1d(given)) != tuple(np.atleast_1d(stored)):
        raise ValueError(f"{key} is {given}, but the processor was made for {stored}")
    return stored


def _check_encoded(position: int, sample: dict[str, Any]) -> None:
    """Raise one clear error for what would otherwise fail deep in the model."""
    needed = ["input_ids", "labels", "mm_token_type_ids", "pixel_values", "image_grid_thw"]
    needed += ["goal_pixel", "goal_mask", "answer_class"]
    missing = [key for key in needed if key not in sample]
    if missing:
        raise ValueError(
            f"sample {position} of the batch has no {', '.join(missing)}; it has {sorted(sample)}."
            " Was its dataset made with processor=...?"
        )
    lengths = {key: len(sample[key]) for key in needed[:3]}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"sample {position} of the batch: lengths differ: {lengths}")
    grid = torch.as_tensor(sample["image_grid_thw"])
    num_patches = int(grid.prod(dim=-1).sum())
    if len(sample["pixel_values"]) != num_patches:
        raise ValueError(
            f"sample {position} of the batch: pixel_values has {len(sample['pixel_values'])}"
            f" patches, image_grid_thw {grid.tolist()} asks for {num_patches}"
        )


def _stack_landmarks(samples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return zeros, for no image, if a sample has no mask."""
    masks = [sample.get("landmark_mask") for sample in samples]
    shapes = {tuple(mask.shape) for mask in masks if mask is not None}
    if not shapes:
        return {}
    if len(shapes) > 1:
        raise ValueError(f"landmark_mask: shapes differ in the batch: {sorted(shapes)}")
    none = torch.zeros(shapes.pop())
    rows = [none if mask is None else torch.as_tensor(mask) for mask in masks]
    num_images = torch.tensor([sample.get("num_landmark_images", 0) for sample in samples])
    return {"landmark_mask": torch.stack(rows), "num_landmark_images": num_images}
