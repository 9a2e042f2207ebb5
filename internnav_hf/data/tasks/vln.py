"""Samples of the instruction-following models that learn from whole episodes: Seq2Seq, CMA, RDP.

A sample is one episode with one of its instructions: what the robot saw at every frame, and what it
should have done.

Differs from the published loaders: samples are found by index and need no shuffled copies of the
data in memory; an episode that got stuck loses its last frames in every array; all instructions are
used, however many; an image that cannot be read is an error.

T frames of a sample, L tokens, S image size, D depth size.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from internnav_hf.camera import CameraSpec
from internnav_hf.data.checks.cameras import recorded_camera
from internnav_hf.data.features import FeatureStore, frames_key
from internnav_hf.data.formats.vln_pe.frames import (
    DEPTH_UNIT_M,
    KINDS,
    SPLAT_MARKER,
    FrameRules,
)
from internnav_hf.data.formats.vln_pe.index import FailureRules, ReadingRules
from internnav_hf.data.formats.vln_pe.reader import EXPERT_ACTIONS, HORIZON, previous_actions
from internnav_hf.data.index import EpisodeTable
from internnav_hf.data.readers.errors import broken
from internnav_hf.data.rows import EpisodeRow, camera_of
from internnav_hf.data.tasks import vln_targets
from internnav_hf.data.tasks.common import RDP, VLN, EpisodeDataset, check_option
from internnav_hf.geometry import Action

TASK_OF = {"actions": VLN, "displacements": RDP}
INSTRUCTION_SOURCES = ("text", "tokens")
MAX_STEPS = 200
AGREEMENT = 0.9  # share of stored instructions that the processor must encode alike


class Processor(Protocol):
    """Protocol of the part of `VLNProcessor` that the dataset uses."""

    tokenizer: Any  # its length is that of the vocabulary
    max_length: int  # tokens of an instruction

    def encode_instructions(self, texts: Sequence[str]) -> np.ndarray:
        """(B, L) int64, padded with 0."""
        ...

    def encode_rgb(self, rgb: np.ndarray) -> np.ndarray:
        """(T, 3, S, S) uint8 of (T, rows, columns, 3)."""
        ...

    def encode_depth(self, depth: np.ndarray) -> np.ndarray:
        """(T, D, D) float32 m of (T, rows, columns)."""
        ...


@dataclass(eq=False, repr=False)
class VLNDataset(EpisodeDataset):
    """Whole episodes as a map-style dataset.

    `data_root` holds a folder per scan, each with a folder per scene; a list of them is read one
    after the other, as when what DAgger collected is added. `scans` limits them (a comma separated
    string or a list). It may also be one of `vln_ce`, with depth, whose scans are datasets (`r2r`,
    or with their camera `r2r_125cm_0_30`, whose look-down view is shown), or of a registered
    format: `progress` that a format does not store is the share of the steps forward that are done.
    Samples are sorted by place and instruction. `lengths` (one per sample) are for batches of
    episodes that are about equally long. `camera` is that of data that record none.

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

    data_root: str | Path | Iterable[str | Path]
    processor: Processor
    targets: str = "actions"
    scans: str | Iterable[str] | None = None
    max_steps: int = MAX_STEPS
    features: FeatureStore | None = None
    instructions: str = "text"
    max_characters: int | None = None
    inflection_coefficient: float = vln_targets.INFLECTION_COEFFICIENT
    discrete_fix: bool = True
    shortest_failure: int = FailureRules.shortest_failure
    stuck_tail: int = FailureRules.stuck_tail
    depth_unit_m: float = DEPTH_UNIT_M
    splat_marker: str | None = SPLAT_MARKER
    max_broken_fraction: float = 0.01
    cache_dir: str | Path | None = None
    camera: CameraSpec | None = None

    def __post_init__(self):
        given = self.data_root
        roots = [given] if isinstance(given, str | Path) else given
        self.data_roots = [Path(root) for root in roots]
        for key, known in (("targets", (*TASK_OF,)), ("instructions", INSTRUCTION_SOURCES)):
            check_option(key, getattr(self, key), getattr(self, key) in known, f"one of {known}")
        check_option("max_steps", self.max_steps, self.max_steps >= 1, "at least 1")
        check_option("data_root", self.data_root, self.data_roots, "at least one folder")
        rules = ReadingRules(
            frames=FrameRules(self.depth_unit_m, self.splat_marker),
            failures=FailureRules(self.shortest_failure, self.stuck_tail),
        )
        options = (self.scans, self.cache_dir, self.max_broken_fraction, self.camera)
        task = TASK_OF[self.targets]
        tables = [task.below(root, *options, vln_pe=rules) for root in self.data_roots]
        self.episodes = _joined(tables)
        self.num_broken_episodes = sum(len(t.broken_episodes) for parts in tables for t in parts)
        self.camera = next(iter(self.cameras), None)
        texts = self.episodes["instructions"].to_pylist()
        self._sample_episode = np.repeat(np.arange(len(texts)), [len(rows) for rows in texts])
        self._check_actions()
        self._instruction_ids = self._encoded(texts)

    @property
    def lengths(self) -> np.ndarray:
        """(samples,) number of frames of each."""
        used = np.minimum(self.episodes["length"].to_numpy(), self.max_steps)
        return used[self._sample_episode]

    @property
    def cameras(self) -> list[CameraSpec]:
        """All different cameras. Our simulator records its camera; InternData-N1 does not."""
        first = dict[tuple, int]()
        for row, place in enumerate(self.episodes.select(["root", "unit"]).to_pylist()):
            first.setdefault((place["root"], self._group(place)), row)
        found = [_camera(self._episode(row)) for row in first.values()]
        return list(dict.fromkeys(filter(None, found)))

    def __len__(self) -> int:
        return len(self._sample_episode)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        sample = self._position(index)
        number = int(self._sample_episode[sample])
        episode = self._episode(number)
        length = min(episode["length"], self.max_steps)
        actions = episode.array("actions").astype(np.int64)
        targets = self._actions if self.targets == "actions" else self._displacements
        progress = episode.array("progress", otherwise=vln_targets.progress(actions))
        return {
            "instruction_ids": self._instruction_ids[sample].astype(np.int64),
            **self._views(number, length),
            "progress": progress[:length].astype(np.float32),
            **{key: values[:length] for key, values in targets(episode, actions).items()},
        }

    def where(self, index: int) -> str:
        """Origin of a sample, for messages."""
        return str(self._episode(int(self._sample_episode[self._position(index)])))

    def text(self, index: int) -> str:
        """The instruction of a sample, verbatim."""
        sample = self._position(index)
        episode = int(self._sample_episode[sample])
        number = sample - int(np.searchsorted(self._sample_episode, episode))
        return self.episodes["instructions"][episode][number].as_py()

    @cached_property
    def feature_keys(self) -> list[str]:
        """Key of each episode, which changes with its frames on disk."""
        episodes = map(self._episode, range(self.episodes.num_rows))
        return [episode["frames_key"] or _frames_key(episode) for episode in episodes]

    def read_frames(self, episode: int) -> dict[str, np.ndarray]:
        """All frames of an episode on disk as the model takes them: `rgb` (T, 3, S, S) uint8 and
        `depth` (T, D, D) m. Unused ones too, so that features fit any cut of the episode.
        """
        row = self._episode(episode)
        return self._processed(row, row["num_recorded"] or row["length"])

    def _processed(self, episode: EpisodeRow, stop: int) -> dict[str, np.ndarray]:
        return {
            "rgb": np.asarray(self.processor.encode_rgb(episode.images(stop))),
            "depth": np.asarray(self.processor.encode_depth(episode.depths(stop))),
        }

    def _views(self, episode: int, length: int) -> Mapping[str, np.ndarray]:
        if self.features is None:
            return self._processed(self._episode(episode), length)
        return self.features.read(self.feature_keys[episode], length)

    def _actions(self, episode: EpisodeRow, actions: np.ndarray) -> dict[str, np.ndarray]:
        weights = vln_targets.inflection_weights(actions, self.inflection_coefficient)
        previous = _previous_actions(episode, actions)
        return {"previous_actions": previous, "actions": actions, "inflection_weights": weights}

    def _displacements(self, episode: EpisodeRow, actions: np.ndarray) -> dict[str, np.ndarray]:
        poses, plans = episode.poses, _plans(episode)
        if len(plans):
            steps = vln_targets.planned_displacements(plans)
        else:
            steps = vln_targets.displacements(poses)
            if self.discrete_fix:
                steps = vln_targets.discrete_displacements(steps, actions)
        arrays = {
            "previous_displacements": vln_targets.previous_displacements(poses),
            "displacements": steps,
            "relative_pose": vln_targets.relative_poses(poses),
            "stop_progress": vln_targets.stop_progress(
                min(len(poses), self.max_steps),
                episode.array("steps_left") if len(plans) else None,
            ),
        }
        return {key: values.astype(np.float32) for key, values in arrays.items()}

    def _check_actions(self) -> None:
        """Refuse actions that the models do not have, and for RDP episodes with other actions than
        the expert's and no plans of the expert.
        """
        is_known = pc.max(pc.list_flatten(self.episodes["actions"])).as_py() <= Action.TURN_RIGHT
        if is_known and self.targets == "actions":
            return
        for episode in map(self._episode, range(self.episodes.num_rows)):
            actions = episode.array("actions").astype(np.int64)
            if actions.max(initial=0) > Action.TURN_RIGHT:
                expected = "0 stop, 1 forward, 2 left, 3 right"
                raise broken(str(episode), "actions", actions.max(), expected)
            is_led = (_previous_actions(episode, actions)[1:] != actions[:-1]).any()
            if self.targets != "actions" and is_led and not len(_plans(episode)):
                expected = "the expert's plans, as others than its actions were done"
                raise broken(str(episode), EXPERT_ACTIONS, "no such column", expected)

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
                    raise ValueError(f"{self._episode(episode)}: {error}") from error
                encoded.append(ids[0].astype(np.int32))
        return encoded

    def _stored(self, texts: list[list[str]]) -> list[np.ndarray]:
        """Return the published ids if they are of the processor's vocabulary."""
        names = {"instruction_tokens"} & {*self.episodes.column_names}
        rows = self.episodes.select(names).to_pylist()
        tokens = [row.get("instruction_tokens") or [] for row in rows]
        num_words = len(self.processor.tokenizer)
        for episode, rows in enumerate(tokens):
            where = str(self._episode(episode))
            if len(rows) != len(texts[episode]):
                expected = "instructions='text' where no word ids are stored"
                raise broken(where, "instruction_tokens", "none", expected)
            for number in {number for row in rows for number in row}:
                if not 0 < number < num_words:
                    expected = f"1 to {num_words - 1}: ids of the processor's vocabulary"
                    raise broken(where, "instruction_tokens", number, expected)
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


def read_texts(
    data_root: str | Path,
    scans: str | Iterable[str] | None = None,
    max_broken_fraction: float = 0.01,
    cache_dir: str | Path | None = None,
) -> list[str]:
    """Return the instructions below one root, from which vocabularies are built before there is a
    processor.
    """
    tables = VLN.below(Path(data_root), scans, cache_dir, max_broken_fraction)
    columns = [pc.list_flatten(table.episodes["instructions"]) for table in tables]
    return [text for column in columns for text in column.to_pylist()]


def _joined(roots: Sequence[Sequence[EpisodeTable]]) -> pa.Table:
    """Concatenate the tables of each root, with the number of the root of each row."""
    tables = []
    for root, parts in enumerate(roots):
        for part in parts:
            column = pa.array(np.full(part.episodes.num_rows, root, np.int32))
            tables.append(part.episodes.append_column("root", column))
    return pa.concat_tables(tables, promote_options="default")


def _camera(episode: EpisodeRow) -> CameraSpec | None:
    """Return the recorded camera if it is that of the images, else the one of the columns."""
    recorded = recorded_camera(episode.folder)
    shown = camera_of(episode) if episode.has("focal") else None
    if recorded and shown and abs(recorded.pitch_deg - shown.pitch_deg) > 0.01:
        return shown
    return recorded or shown


def _frames_key(episode: EpisodeRow) -> str:
    """Return a key of the files with the frames, and of how they are read."""
    frames = range(episode["length"])
    files = dict.fromkeys(episode.file(kind, frame) for kind in KINDS for frame in frames)
    return f"{frames_key(files, episode.folder)}-{episode['depth_scale']:g}"


def _previous_actions(episode: EpisodeRow, actions: np.ndarray) -> np.ndarray:
    """Return (T,) what led to each frame."""
    return episode.array("previous_actions", otherwise=previous_actions(actions)).astype(np.int64)


def _plans(episode: EpisodeRow) -> np.ndarray:
    """Return (T, H) the expert's next actions from each frame, (0, H) if they are not stored."""
    return episode.array("plans", HORIZON, otherwise=np.empty((0, HORIZON), np.int64))
