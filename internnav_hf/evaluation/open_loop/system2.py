"""Open loop: System2's answers on held-out samples of a dataset, without a simulator.

Each sample is asked twice. Once as it is: the kind of the answer is compared with the expert's. And
where the expert points at a pixel, once with "↓" as a forced answer, so that every pixel goal
counts, also where System2 would rather have turned; `pixel_error_own_px` is the error where "↓" was
its own answer.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from accelerate.utils import gather_object

from internnav_hf.data.tasks.system2 import System2Dataset
from internnav_hf.evaluation.open_loop.common import answer_samples
from internnav_hf.geometry import Action
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.policies import Decision, System2Policy

WITHIN_PX = 20
CLASSES = ("pixel goal", "turn", "stop")
ANSWERS = (*CLASSES, "unparsable")
# Turning to the wrong side is wrong: accuracies tell left from right.
ACTIONS = ("pixel goal", "turn left", "turn right", "stop")


def evaluate_open_loop(
    policy: System2Policy,
    dataset: System2Dataset,
    *,
    constant_goal: Sequence[float] | None = None,
    **drawing: int | None,
) -> dict[str, Any]:
    """Metrics over samples of `dataset`, see `summarize_answers`; `drawing` are the `num_samples`,
    `batch_size` and `seed` of `answer_samples`.

    `constant_goal` (u, v) is the answer to beat, for example the median of the training goals; None
    takes `median_goal`, the best constant. For fair shares make the dataset with `stop_repeat=1`.
    """
    answer = partial(_answer_batch, policy, dataset)
    rows = answer_samples(answer, dataset, **drawing)  # type: ignore[arg-type]
    constant = median_goal(dataset) if constant_goal is None else np.asarray(constant_goal)
    result = summarize_answers(gather_object(rows), constant)
    return {**result, "image_size": list(dataset.image_size)}


def median_goal(dataset: System2Dataset) -> np.ndarray | None:
    """(2,) the constant with the least mean error; None if the dataset has no pixel goal."""
    goals = [dataset.samples[name].to_numpy() for name in ("goal_u", "goal_v")]
    is_goal = dataset.samples["answer_class"].to_numpy() == AnswerKind.PIXEL_GOAL
    return geometric_median(np.stack(goals, axis=1)[is_goal]) if is_goal.any() else None


def geometric_median(points: np.ndarray, num_iterations: int = 50) -> np.ndarray:
    """(2,) the point with the least mean distance to `points` (N, 2), by Weiszfeld's iteration.

    Distances are smoothed by a tenth of a pixel, so that it does not get stuck on one of `points`.
    """
    points = points.astype(float)
    center = np.median(points, axis=0)
    for _ in range(num_iterations):
        weights = 1 / np.hypot(np.linalg.norm(points - center, axis=1), 0.1)
        center = weights @ points / weights.sum()
    return center


def _answer_batch(policy: System2Policy, dataset: System2Dataset, indices: list[int]) -> list[dict]:
    samples = [dataset.decision(index) for index in indices]
    free = policy.decide(*_questions(samples))
    pointing = [i for i, sample in enumerate(samples) if sample["goal_pixel"] is not None]
    asked = [samples[i] for i in pointing]
    views = [sample["look_down"] for sample in asked]
    forced = policy.decide(*_questions(asked), look_down=views, force_look_down=True)
    goals = dict(zip(pointing, forced, strict=True))
    return [_row(sample, free[i], goals.get(i)) for i, sample in enumerate(samples)]


def _questions(samples: list[dict]) -> tuple[list, list, list]:
    return (
        [sample["image"] for sample in samples],
        [sample["instruction"] for sample in samples],
        [sample["history"] for sample in samples],
    )


def _row(sample: dict, decision: Decision, pointed: Decision | None) -> dict:
    return {
        "class": int(sample["answer_class"]),
        "action": _action_name(AnswerKind(sample["answer_class"]), sample["actions"]),
        "answer": _answer_class(decision.kind),
        "answer_action": _action_name(decision.kind, decision.actions),
        "goal": sample["goal_pixel"],
        "answer_goal": pointed and pointed.goal_pixel,
        "is_valid": AnswerKind.UNPARSABLE not in (decision.kind, pointed and pointed.kind),
    }


def _answer_class(kind: AnswerKind) -> int:
    """Column of the confusion matrix; asking to look down announces a pixel goal."""
    if kind == AnswerKind.UNPARSABLE:
        return ANSWERS.index("unparsable")
    return int(AnswerKind.PIXEL_GOAL if kind == AnswerKind.LOOK_DOWN else kind)


def _action_name(kind: AnswerKind, actions: Sequence[int]) -> str:
    if kind in (AnswerKind.PIXEL_GOAL, AnswerKind.LOOK_DOWN):
        return "pixel goal"
    if kind == AnswerKind.UNPARSABLE:
        return "unparsable"
    first = {Action.STOP: "stop", Action.TURN_LEFT: "turn left", Action.TURN_RIGHT: "turn right"}
    return first.get(Action(actions[0]), "forward")


def summarize_answers(rows: list[dict], constant_goal: np.ndarray | None) -> dict[str, Any]:
    """The metrics of all rows; what there is no sample for is left out.

    * `pixel_error_px`, `pixel_error_median_px`, `within_20px`: goals asked for with a forced "↓";
      one that is missing (`num_goals_missing`) is not within, and has the constant goal's error
    * `pixel_error_constant_px`: of the constant goal, over the same samples
    * `pixel_error_own_px`: where System2 said "↓" itself and a goal followed
    * `action_accuracy`, `balanced_accuracy` (mean recall), `recall` by action
    * `format_validity`: share of samples of which every answer could be parsed
    * `confusion`: `counts` of expert classes (rows) and answers (columns)
    """
    counts = np.zeros((len(CLASSES), len(ANSWERS)), dtype=int)
    for row in rows:
        counts[row["class"], row["answer"]] += 1
    recall = {}
    for name in ACTIONS:
        if hits := [row["answer_action"] == name for row in rows if row["action"] == name]:
            recall[name] = float(np.mean(hits))
    return {
        "num_samples": len(rows),
        "action_accuracy": float(np.mean([row["action"] == row["answer_action"] for row in rows])),
        "balanced_accuracy": float(np.mean(list(recall.values()))),
        "format_validity": float(np.mean([row["is_valid"] for row in rows])),
        **_pixel_metrics([row for row in rows if row["goal"] is not None], constant_goal),
        "recall": recall,
        "confusion": {"classes": CLASSES, "answers": ANSWERS, "counts": counts.tolist()},
    }


def _pixel_metrics(rows: list[dict], constant_goal: np.ndarray | None) -> dict[str, Any]:
    answered = [row for row in rows if row["answer_goal"] is not None]
    metrics: dict[str, Any] = {
        "num_pixel_goals": len(rows),
        "num_goals_missing": len(rows) - len(answered),
    }
    if rows and constant_goal is not None:
        constants = [{**row, "answer_goal": constant_goal} for row in rows]
        metrics["pixel_error_constant_px"] = float(np.mean([_pixel_error(c) for c in constants]))
        pairs = zip(rows, constants, strict=True)
        filled = [other if row["answer_goal"] is None else row for row, other in pairs]
    else:
        filled = answered
    if filled:
        errors = np.array([_pixel_error(row) for row in filled])
        metrics["pixel_error_px"] = float(errors.mean())
        metrics["pixel_error_median_px"] = float(np.median(errors))
        within = [_pixel_error(row) <= WITHIN_PX for row in answered]
        metrics["within_20px"] = sum(within) / len(rows)
    own = [_pixel_error(row) for row in answered if row["answer_action"] == "pixel goal"]
    if own:
        metrics["pixel_error_own_px"] = float(np.mean(own))
    return metrics


def _pixel_error(row: dict) -> float:
    return float(np.linalg.norm(np.subtract(row["answer_goal"], row["goal"])))


def scalars(result: dict[str, Any]) -> dict[str, float]:
    """The numbers among the metrics by name, for a training log; `confusion_*_as_*` are counts."""
    numbers = {name: float(value) for name, value in result.items() if np.isscalar(value)}
    numbers |= {f"recall_{name}": value for name, value in result["recall"].items()}
    for true, counts in zip(CLASSES, result["confusion"]["counts"], strict=True):
        for answer, count in zip(ANSWERS, counts, strict=True):
            numbers[f"confusion_{true}_as_{answer}"] = float(count)
    return {name.replace(" ", "_"): value for name, value in numbers.items()}
