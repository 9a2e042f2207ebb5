"""Samples of the instruction-following models that learn from whole episodes: Seq2Seq, CMA, RDP.

A sample is one episode of `vln_pe` with one of its instructions: what the robot saw at every frame,
and what it should have done.

Differs from the published loaders: samples are found by index and need no shuffled copies of the
data in memory; a walk that got stuck loses its last frames in every array; all instructions are
used, however many; an image that cannot be read is an error.

T frames of a sample, L tokens, S image size, D depth size.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from torch.utils.data import Dataset

from internnav_hf.camera import CameraSpec
from internnav_hf.data.checks.cameras import recorded_camera
from internnav_hf.data.episode import is_simulated
from internnav_hf.data.features import FeatureStore
from internnav_hf.data.formats.vln_pe.frames import (
    DEPTH_UNIT_M,
    SPLAT_MARKER,
    FrameRules,
    RecordedFrames,
)
from internnav_hf.data.formats.vln_pe.index import FailureRules, ReadingRules, vln_pe
from internnav_hf.data.formats.vln_pe.reader import EXPERT_ACTIONS
from internnav_hf.data.index import DEFAULT_CACHE, EpisodeTable, open_episodes
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.tasks import vln_targets

logger = logging.getLogger(__name__)

TARGETS = ("actions", "displacements")
INSTRUCTION_SOURCES = ("text", "tokens")
MAX_STEPS = 200
AGREEMENT = 0.9  # share of stored instructions that the processor must encode alike


class Processor(Protocol):
    """Protocol of the part of `VLNProcessor` that the dataset uses."""

    @property
    def tokenizer(self) -> Any:
        """Its length is that of the vocabulary."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens of an instruction."""
        ...

    def encode_instructions(self, texts: Sequence[str]) -> np.ndarray:
        """(B, L) int64, padded with 0."""
        ...

    def encode_rgb(self, rgb: np.ndarray) -> np.ndarray:
        """(T, 3, S, S) uint8 of (T, rows, columns, 3)."""
        ...

    def encode_depth(self, depth: np.ndarray) -> np.ndarray:
        """(T, D, D) float32 m of (T, rows, columns)."""
        ...


class VLNDataset(Dataset):
    """Whole episodes as a map-style dataset.

    `data_root` holds a folder per scan, each with a folder per scene; a list of them is read one
    after the other, as when what DAgger collected is added. `scans` limits them (a comma separated
    string or a list). Samples are sorted by place and instruction. `lengths` (one per sample) are
    for batches of walks that are about equally long.

    An item has arrays of one row of each key of `VLNCollator`'s batch. `targets="actions"` is for
    Seq2Seq and CMA, `"displacements"` for RDP. With `features` it has what frozen encoders made of
    the images, and no image is read.

    `instructions="text"` (default) encodes the text with the processor's vocabulary, as at
    inference. `"tokens"` takes the stored word ids, as published; they are of the vocabulary of
    VLN-CE's R2R, and a processor with another is refused.

    Published rules that can be changed: walks are cut after `max_steps`; failed walks of fewer than
    `shortest_failure` frames are left out; walks that got stuck lose their last `stuck_tail`
    frames; an action that differs from the one before weighs `inflection_coefficient`; with
    `discrete_fix`, displacements are set right by the actions that were meant. RDP was trained with
    instructions cut after 248 characters (`max_characters=248`), though not evaluated so.
    Where others than the expert's actions were done (DAgger, exploration), displacements and
    `stop_progress` are those of the expert's stored plans; walks without are refused.

    `depth_unit_m` is what 1 means in a depth array, `splat_marker` see `vln_pe_frames`.
    """

    def __init__(
        self,
        data_root: str | Path | Iterable[str | Path],
        processor: Processor,
        targets: str = "actions",
        scans: str | Iterable[str] | None = None,
        max_steps: int = MAX_STEPS,
        features: FeatureStore | None = None,
        instructions: str = "text",
        max_characters: int | None = None,
        inflection_coefficient: float = vln_targets.INFLECTION_COEFFICIENT,
        discrete_fix: bool = True,
        shortest_failure: int = FailureRules.shortest_failure,
        stuck_tail: int = FailureRules.stuck_tail,
        depth_unit_m: float = DEPTH_UNIT_M,
        splat_marker: str | None = SPLAT_MARKER,
        max_broken_fraction: float = 0.01,
        cache_dir: str | Path | None = None,
    ):
        single = isinstance(data_root, str | Path)
        self.data_roots = [Path(root) for root in ([data_root] if single else data_root)]
        self.processor = processor
        self.targets = targets
        self.max_steps = max_steps
        self.features = features
        self.instructions = instructions
        self.max_characters = max_characters
        self.inflection_coefficient = inflection_coefficient
        self.discrete_fix = discrete_fix
        _check("targets", targets, targets in TARGETS, f"one of {TARGETS}")
        known = instructions in INSTRUCTION_SOURCES
        _check("instructions", instructions, known, f"one of {INSTRUCTION_SOURCES}")
        _check("max_steps", max_steps, max_steps >= 1, "at least 1")
        _check("data_root", data_root, self.data_roots, "at least one folder")
        self.rules = ReadingRules(
            _names(scans),
            FrameRules(depth_unit_m, splat_marker),
            FailureRules(shortest_failure, stuck_tail),
        )
        cache = Path(cache_dir or DEFAULT_CACHE)
        indexes = [
            open_episodes(vln_pe(root, self.rules), cache, max_broken_fraction)
            for root in self.data_roots
        ]
        self.episodes = _joined(indexes)
        self.num_broken_episodes = sum(len(index.broken_episodes) for index in indexes)
        texts = self.episodes["instructions"].to_pylist()
        self._sample_episode = np.repeat(np.arange(len(texts)), [len(rows) for rows in texts])
        self._instruction_ids = self._encoded(texts)
        if targets == "displacements":
            self._check_experts()

    @property
    def lengths(self) -> np.ndarray:
        """(samples,) number of frames of each."""
        used = np.minimum(self.episodes["length"].to_numpy(), self.max_steps)
        return used[self._sample_episode]

    @property
    def camera(self) -> CameraSpec | None:
        """Camera of the first folder that records one; `cameras` lists all."""
        return next(iter(self.cameras), None)

    @property
    def cameras(self) -> list[CameraSpec]:
        """All different cameras. Our simulator records its camera; InternData-N1 does not."""
        cameras = [recorded_camera(unit) for unit in self._units()]
        return list(dict.fromkeys(camera for camera in cameras if camera is not None))

    @property
    def is_simulated(self) -> bool:
        """Return whether the embedded simulator wrote all scans."""
        return all(is_simulated(unit) for unit in self._units())

    def _units(self) -> list[Path]:
        """The first folder of each scan."""
        names = ("root", "unit")
        first = {}
        for root, unit in zip(*(self.episodes[name].to_pylist() for name in names), strict=True):
            first.setdefault((root, unit.split("/")[0]), self.data_roots[root] / unit)
        return list(first.values())

    def __len__(self) -> int:
        return len(self._sample_episode)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        sample = self._position(index)
        episode = int(self._sample_episode[sample])
        length = min(self.episodes["length"][episode].as_py(), self.max_steps)
        walk = _Walk.of(self.episodes, episode)
        targets = self._actions(walk) if self.targets == "actions" else self._displacements(walk)
        return {
            "instruction_ids": self._instruction_ids[sample].astype(np.int64),
            **self._views(episode, length),
            "progress": walk.progress[:length].astype(np.float32),
            **{key: values[:length] for key, values in targets.items()},
        }

    def where(self, index: int) -> str:
        """Origin of a sample, for messages."""
        return self._name(int(self._sample_episode[self._position(index)]))

    def text(self, index: int) -> str:
        """The instruction of a sample, verbatim."""
        sample = self._position(index)
        episode = int(self._sample_episode[sample])
        number = sample - int(np.searchsorted(self._sample_episode, episode))
        return self.episodes["instructions"][episode][number].as_py()

    def recorded(self, index: int) -> RecordedFrames:
        """Frames of a sample as stored on disk."""
        return self._frames(int(self._sample_episode[self._position(index)]))

    @property
    def feature_keys(self) -> list[str]:
        """Key of each episode, which changes with its frames on disk."""
        return self.episodes["frames_key"].to_pylist()

    def read_frames(self, episode: int) -> dict[str, np.ndarray]:
        """All frames of an episode on disk as the model takes them: `rgb` (T, 3, S, S) uint8 and
        `depth` (T, D, D) m. Unused ones too, so that features fit any cut of the episode.
        """
        return self._processed(episode, None)

    def _position(self, index: int) -> int:
        position = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= position < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return position

    def _frames(self, episode: int) -> RecordedFrames:
        names = ("root", "unit", "episode_index", "num_recorded")
        root, unit, number, length = (self.episodes[name][episode].as_py() for name in names)
        return RecordedFrames(self.data_roots[root], unit, number, length, self.rules.frames)

    def _processed(self, episode: int, stop: int | None) -> dict[str, np.ndarray]:
        frames = self._frames(episode)
        return {
            "rgb": np.asarray(self.processor.encode_rgb(frames.rgb(stop))),
            "depth": np.asarray(self.processor.encode_depth(frames.depth(stop))),
        }

    def _views(self, episode: int, length: int) -> Mapping[str, np.ndarray]:
        if self.features is None:
            return self._processed(episode, length)
        return self.features.read(self.episodes["frames_key"][episode].as_py(), length)

    def _actions(self, walk: "_Walk") -> dict[str, np.ndarray]:
        weights = vln_targets.inflection_weights(walk.actions, self.inflection_coefficient)
        return {
            "previous_actions": walk.previous_actions,
            "actions": walk.actions,
            "inflection_weights": weights,
        }

    def _displacements(self, walk: "_Walk") -> dict[str, np.ndarray]:
        if len(walk.plans):
            steps = vln_targets.planned_displacements(walk.plans)
        else:
            steps = vln_targets.displacements(walk.poses)
            if self.discrete_fix:
                steps = vln_targets.discrete_displacements(steps, walk.actions)
        arrays = {
            "previous_displacements": vln_targets.previous_displacements(walk.poses),
            "displacements": steps,
            "relative_pose": vln_targets.relative_poses(walk.poses),
            "stop_progress": vln_targets.stop_progress(
                min(len(walk.poses), self.max_steps),
                walk.steps_left if len(walk.plans) else None,
            ),
        }
        return {key: values.astype(np.float32) for key, values in arrays.items()}

    def _check_experts(self) -> None:
        """Refuse episodes with other actions than the expert's and no plans of the expert."""
        for episode in range(self.episodes.num_rows):
            walk = _Walk.of(self.episodes, episode)
            if not len(walk.plans) and (walk.previous_actions[1:] != walk.actions[:-1]).any():
                expected = "the expert's plans, as others than its actions were done"
                raise broken(self._name(episode), EXPERT_ACTIONS, "no such column", expected)

    def _encoded(self, texts: list[list[str]]) -> list[np.ndarray]:
        """Return word ids (L,) by sample; an error names the episode."""
        if self.instructions == "tokens":
            return self._stored(texts)
        encoded = []
        for episode, rows in enumerate(texts):
            for text in rows:
                try:
                    ids = self.processor.encode_instructions([text[: self.max_characters]])
                except ValueError as error:
                    raise ValueError(f"{self._name(episode)}: {error}") from error
                encoded.append(ids[0].astype(np.int32))
        return encoded

    def _stored(self, texts: list[list[str]]) -> list[np.ndarray]:
        """Return the published ids if they are of the processor's vocabulary."""
        tokens = self.episodes["instruction_tokens"].to_pylist()
        num_words = len(self.processor.tokenizer)
        for episode, rows in enumerate(tokens):
            if len(rows) != len(texts[episode]):
                expected = "instructions='text' where no word ids are stored"
                raise broken(self._name(episode), "instruction_tokens", "none", expected)
            for number in {number for row in rows for number in row}:
                if not 0 < number < num_words:
                    expected = f"1 to {num_words - 1}: ids of the processor's vocabulary"
                    raise broken(self._name(episode), "instruction_tokens", number, expected)
        longest = self.processor.max_length
        stored = [np.array(row[:longest], np.int32) for rows in tokens for row in rows]
        self._check_vocabulary(stored, [text for rows in texts for text in rows])
        return stored

    def _check_vocabulary(self, stored: list[np.ndarray], texts: list[str]) -> None:
        """Check that the processor encodes some of the texts to their stored ids."""
        some = np.unique(np.linspace(0, len(texts) - 1, 200).astype(int))
        same = [self._encodes(texts[i], stored[i]) for i in some]
        if np.mean(same) < AGREEMENT:
            raise ValueError(
                f"instruction_tokens: found {sum(same)} of {len(same)} instructions with the word"
                f" ids that the processor gives them, expected {AGREEMENT:.0%}: the vocabularies"
                " differ. Pass instructions='text', or the vocabulary of the data."
            )

    def _encodes(self, text: str, stored: np.ndarray) -> bool:
        try:
            return np.array_equal(self.processor.encode_instructions([text])[0], stored)
        except ValueError:
            return False

    def _name(self, episode: int) -> str:
        names = ("root", "unit", "episode_index")
        root, unit, number = (self.episodes[name][episode].as_py() for name in names)
        return f"{self.data_roots[root] / unit}, episode {number}"


def read_texts(
    data_root: str | Path,
    scans: str | Iterable[str] | None = None,
    max_broken_fraction: float = 0.01,
    cache_dir: str | Path | None = None,
) -> tuple[list[str], list[list[int]]]:
    """Return the instructions below one root and their stored word ids (empty if none), from which
    vocabularies are built before there is a processor.
    """
    cache = Path(cache_dir or DEFAULT_CACHE)
    source = vln_pe(Path(data_root), ReadingRules(_names(scans)))
    index = open_episodes(source, cache, max_broken_fraction)
    texts = [text for texts in index.episodes["instructions"].to_pylist() for text in texts]
    rows = index.episodes["instruction_tokens"].to_pylist()
    return texts, [tokens for row in rows for tokens in row]


def _names(scans: str | Iterable[str] | None) -> tuple[str, ...] | None:
    names = scans.split(",") if isinstance(scans, str) else scans
    return None if names is None else tuple(names)


@dataclass(frozen=True, eq=False)
class _Walk:
    """Return the used frames of an episode, from the index."""

    actions: np.ndarray
    previous_actions: np.ndarray
    plans: np.ndarray
    steps_left: np.ndarray
    progress: np.ndarray
    poses: np.ndarray

    @classmethod
    def of(cls, episodes: pa.Table, episode: int) -> "_Walk":
        def values(name: str) -> np.ndarray:
            return episodes[name][episode].values.to_numpy()

        return cls(
            values("actions").astype(np.int64),
            values("previous_actions").astype(np.int64),
            values("plans").reshape(-1, vln_targets.HORIZON),
            values("steps_left"),
            values("progress"),
            values("poses").reshape(-1, 3),
        )


def _joined(indexes: Sequence[EpisodeTable]) -> pa.Table:
    """Concatenate tables, with the number of the root of each row."""
    tables = []
    for root, index in enumerate(indexes):
        column = pa.array(np.full(index.episodes.num_rows, root, np.int32))
        tables.append(index.episodes.append_column("root", column))
    return pa.concat_tables(tables)


def _check(key: str, value: object, is_right: object, expected: str) -> None:
    if not is_right:
        raise ValueError(f"{key} is {value!r}; it must be {expected}")
