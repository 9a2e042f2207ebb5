"""Open loop: what models that say actions would do at each frame of held-out walks, no simulator.

Seq2Seq, CMA, RDP and DD-PPO's agent. The views are those of the walk, whatever the model would have
done: teacher forcing. The model
is compared, on the same frames, with

    majority    always the action that is most frequent in this set
    repeat      the action before once more, which is often right and never gets anywhere
    constant    always the mean progress, and for RDP the mean of the true displacements

Recalls by class show what an accuracy hides: a model that never stops is right at all but one frame
of an episode.

Legend: B episodes of a batch, T frames, H horizon, N frames of the whole set.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from internnav_hf.evaluation.open_loop.common import answer_samples, sample_generator
from internnav_hf.geometry import Action, wrap_angle
from internnav_hf.models.rdp.displacements import discrete_actions
from internnav_hf.training.evaluation import evaluating

CLASSES = (Action.STOP, Action.FORWARD, Action.TURN_LEFT, Action.TURN_RIGHT)
Answer = dict[str, np.ndarray]
"""One episode: labels, previous, actions (T,), progress, true_progress (T,); and RDP's poses,
(T, H, 3) as seen from each frame: `poses`, `true_poses`."""


def evaluate_vln_open_loop(
    model: Any,
    dataset: Any,
    collator: Callable[[list], dict[str, Tensor]],
    num_samples: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, float]:
    """Means over the frames of `num_samples` episodes drawn with `seed` (None: all).

    * `action_accuracy`, `stop_recall`, `forward_recall`, `turn_left_recall`, `turn_right_recall`,
      `stop_precision`; `majority_accuracy`, `repeat_accuracy`
    * `progress_error`, `constant_progress_error`: mean distance to the true progress
    * RDP: `ade_m`, `fde_m`: distance to the expert's places, over the horizon and at its end;
      `heading_error_deg` at its end; `constant_ade_m`. Its action is the first that its
      displacements come to.

    What a set has nothing of is left out: without a stop in it there is no `stop_recall`.
    """

    def answer(rows: list[int]) -> list[Answer]:
        batch = collator([dataset[row] for row in rows])
        batch = {name: value.to(model.device) for name, value in batch.items()}
        if "displacements" in batch:
            return by_episode(batch, _answer_displacements(model, batch, rows, seed))
        return by_episode(batch, _answer_actions(model, batch))

    with evaluating(model):
        answers = answer_samples(answer, dataset, num_samples, batch_size, seed)
    return summarize(gather_object(answers))


@torch.no_grad()
def _answer_actions(model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """One pass over whole episodes."""
    output = model(**batch)
    answers = {"actions": output.logits.argmax(-1)}
    return answers | {"progress": output["progress"]} if "progress" in output else answers


@torch.no_grad()
def _answer_displacements(
    model: Any, batch: dict[str, Tensor], rows: list[int], seed: int
) -> dict[str, Tensor]:
    """RDP: displacements at every frame, drawn by episode, their actions and the true ones."""
    scene = model.advance(
        _features(model, batch, "rgb"),
        _features(model, batch, "depth"),
        batch["previous_displacements"],
        batch["relative_pose"],
    )
    generators = [sample_generator(seed, row) for row in rows]
    found = model.sample(batch["instruction_ids"], scene, batch["step_mask"], generators)
    labels = _first_action(batch["displacements"], batch["stop_progress"])
    return {
        "actions": _first_action(found.displacements, found.stop_progress),
        "progress": found.progress,
        "labels": labels,
        "previous": torch.cat([torch.full_like(labels[:, :1], -1), labels[:, :-1]], dim=1),
        "poses": found.displacements.cumsum(2),
        "true_poses": batch["displacements"].cumsum(2),
    }


def _first_action(displacements: Tensor, stop_progress: Tensor) -> Tensor:
    """(B, T) of displacements (B, T, H, 3): what is done first, -1 for nothing."""
    actions = discrete_actions(displacements.flatten(0, 1), stop_progress.flatten())
    return actions[:, 0].unflatten(0, displacements.shape[:2])


def _features(model: Any, batch: dict[str, Tensor], name: str) -> Tensor:
    """(B, T, ...), kept ones or of the views."""
    if f"{name}_features" in batch:
        return batch[f"{name}_features"]
    encode = {"rgb": model.encode_rgb, "depth": model.encode_depth}[name]
    return encode(batch[name].flatten(0, 1)).unflatten(0, batch[name].shape[:2])


def by_episode(batch: dict[str, Tensor], answers: dict[str, Tensor]) -> list[Answer]:
    """Without the padding."""
    names = {"labels": "actions", "previous": "previous_actions", "true_progress": "progress"}
    columns = {ours: batch[key] for ours, key in names.items() if key in batch} | answers
    arrays = {name: value.float().cpu().numpy() for name, value in columns.items()}
    masks = batch["step_mask"].cpu().numpy()
    return [{name: a[row][mask] for name, a in arrays.items()} for row, mask in enumerate(masks)]


def summarize(answers: list[Answer]) -> dict[str, float]:
    """The metrics of all episodes together."""
    all_of = {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}
    labels, actions = all_of["labels"], all_of["actions"]
    right = actions == labels
    counts = [(labels == action).mean() for action in CLASSES]
    result = {
        "action_accuracy": right.mean(),
        "majority_accuracy": max(counts),
        "repeat_accuracy": (all_of["previous"] == labels).mean(),
    }
    for action in CLASSES:
        if (labels == action).any():
            result[f"{action.name.lower()}_recall"] = right[labels == action].mean()
    if (actions == Action.STOP).any():
        result["stop_precision"] = right[actions == Action.STOP].mean()
    if "progress" in all_of:
        truth = all_of["true_progress"]
        result["progress_error"] = np.abs(all_of["progress"] - truth).mean()
        result["constant_progress_error"] = np.abs(np.median(truth) - truth).mean()
    if "poses" in all_of:
        result |= _pose_errors(all_of["poses"], all_of["true_poses"])
    result |= {"num_walks": len(answers), "num_frames": len(labels)}
    return {name: float(value) for name, value in result.items()}


def _pose_errors(poses: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    distances = np.linalg.norm(poses[..., :2] - truth[..., :2], axis=-1)
    constant = truth.mean(axis=0, keepdims=True)
    turned = np.abs(wrap_angle(poses[:, -1, 2] - truth[:, -1, 2]))
    return {
        "ade_m": distances.mean(),
        "fde_m": distances[:, -1].mean(),
        "heading_error_deg": np.rad2deg(turned).mean(),
        "constant_ade_m": np.linalg.norm((constant - truth)[..., :2], axis=-1).mean(),
    }
