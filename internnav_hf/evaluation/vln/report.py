"""Tables and report of instruction following."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation import report
from internnav_hf.evaluation.metrics import episode_metrics
from internnav_hf.evaluation.records import STEP, DecisionRecord, Rollout
from internnav_hf.evaluation.report import CardMaker, Columns, Section, cells, markdown_table
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.sim.scenes import Scene

COLUMNS: Columns = {
    "sr": ("SR ↑", "success rate: stopped by itself, close to the goal", "{:.1%}"),
    "spl": ("SPL ↑", "success weighted by shortest / walked distance", "{:.3f}"),
    "os": ("OS ↑", "oracle success: was close to the goal at any moment", "{:.1%}"),
    "ne": ("NE ↓", "navigation error: metres to the goal at the end", "{:.2f} m"),
    "ndtw": ("nDTW ↑", "how faithfully the reference path was followed", "{:.3f}"),
    "collision_rate": ("CR ↓", "share of actions that ran into something", "{:.1%}"),
    "tl": ("TL", "metres walked", "{:.1f} m"),
    "steps": ("steps", "actions, STOP included", "{:.0f}"),
}
NUM_EPISODES = 3  # successes shown, and as many failures
# name in System2's open-loop result -> heading; those in pixels end in "_px", others are shares
HEADLINES = {
    "pixel_error_px": "mean pixel error",
    "pixel_error_median_px": "median pixel error",
    "pixel_error_constant_px": "error of the best constant answer",
    "within_20px": "within 20 px",
    "pixel_error_own_px": "error where it chose to point",
    "action_accuracy": "right action",
    "balanced_accuracy": "right action, classes weighing the same",
    "format_validity": "answers that can be parsed",
}
TRAJECTORY_COLUMNS = {
    "ADE ↓": "{:.2f} m",
    "FDE ↓": "{:.2f} m",
    "heading error ↓": "{:.0f}°",
    "runs into something ↓": "{:.1%}",
}
_KEYS = ("ade_m", "fde_m", "heading_error_deg", "collision_share")
# row -> its numbers in the result of the dual system's open loop
TRAJECTORY_ROWS = {
    "dual: mean path": (*_KEYS[:3], "mean_path_collision_share"),
    "dual: nearest sample; all samples": ("best_ade_m", "best_fde_m", "", "collision_share"),
    "straight to System2's pixel": tuple(f"straight_{key}" for key in _KEYS),
    "always the mean path": tuple(f"constant_{key}" for key in _KEYS),
    "the expert's path": tuple(f"expert_{key}" for key in _KEYS),
}
EXPLANATION = (
    "The first successes and the first failures that finished, not the prettiest. Dashed black: "
    "reference path. Dotted circle: success. Square: success, cross: failure. White points: where "
    "System2 was asked, or a step is remembered. On the views, the ring is the pixel goal and the "
    "colours are the head's heatmap; blue are the action expert's samples of the path, white "
    "is their mean. The map shows the samples as thin lines. Of models that decide at every step "
    "some steps are shown, with the action that followed and the share of the path that they "
    "thought was done."
)


def write_metrics(out: Path, results: dict) -> None:
    """`metrics.json` and `metrics.md`; `results["agents"]` maps agent names to summaries."""
    rows = [
        [name, *cells(summary, COLUMNS), str(summary["num_episodes"])]
        for name, summary in results["agents"].items()
    ]
    headings = [heading for heading, _, _ in COLUMNS.values()]
    tables = [markdown_table(["agent", *headings, "episodes"], rows)]
    if "dual_open_loop" in results:
        found = [[name, *numbers] for name, numbers in trajectory_rows(results["dual_open_loop"])]
        tables.append(markdown_table(["trajectory", *TRAJECTORY_COLUMNS], found))
    report.write_metrics(out, results, tables)


def trajectory_rows(result: dict[str, float]) -> list[tuple[str, list[str]]]:
    """Name and cells of each row of the dual system's open loop; what was not measured is "-"."""

    def cell(key: str, number: str) -> str:
        return number.format(result[key]) if key in result else "-"

    formats = TRAJECTORY_COLUMNS.values()
    return [(name, list(map(cell, keys, formats))) for name, keys in TRAJECTORY_ROWS.items()]


def write_report(
    out: Path,
    results: dict,
    rollouts: dict[str, list[Rollout]],
    scene_of: Callable[[str], Scene],
    success_distance: float,
    log_history: list[dict] | None = None,
    camera: CameraSpec | None = None,
) -> Path:
    """`report.html` with its pictures and the curve of `log_history`; `camera` took the views."""

    def describe(rollout: Rollout) -> dict[str, str]:
        metrics = episode_metrics(rollout, success_distance)
        num_decisions = sum(d.kind != STEP for d in rollout.decisions)
        facts = [
            f"{rollout.agent} · {rollout.episode_id}",
            f"ends {metrics['ne']:.2f} m from the goal ({rollout.outcome})",
            f"{metrics['steps']:.0f} actions",
            *([f"{num_decisions} decisions"] if num_decisions else []),
            *([f"{rollout.num_unparsable} unparsable"] if rollout.num_unparsable else []),
        ]
        return {"instruction": rollout.instruction, "facts": " · ".join(facts)}

    maker = CardMaker(out, scene_of, success_distance, camera, NUM_EPISODES)
    section = Section(COLUMNS, results["agents"], maker.make(rollouts, describe, caption))
    num_scenes, scene = results["settings"]["num_scenes"], results["settings"]["scene"]
    num_episodes = next(iter(results["agents"].values()))["num_episodes"]
    return report.write_report(
        out,
        results,
        [section],
        COLUMNS,
        log_history,
        title="Navigation report",
        intro=f"{num_episodes} episodes in {num_scenes} {'scene' if num_scenes == 1 else 'scenes'}"
        f"{'' if scene else ' generated with seeds that no dataset uses'}. Success: the agent "
        f"stopped by itself, less than {success_distance:g} m from the goal.",
        explanation=EXPLANATION,
        open_loop=_open_loop(results.get("open_loop")),
        trajectories=_trajectories(results.get("dual_open_loop")),
    )


def caption(rollout: Rollout, decision: DecisionRecord) -> dict[str, str]:
    """When a view was seen, and what else was said of it."""
    details = []
    if decision.goal_pixel is not None:
        details.append("at ({:.0f}, {:.0f})".format(*decision.goal_pixel))
    if decision.goal_confidence is not None:
        details.append(f"· {decision.goal_confidence:.0%} sure")
    if decision.kind == AnswerKind.UNPARSABLE.name:
        details.append("· unparsable")
    return {"when": f"step {decision.step}", "detail": " ".join(details)}


def _trajectories(result: dict[str, float] | None) -> dict | None:
    if result is None:
        return None
    counts = {name: int(result[name]) for name in ("num_samples", "num_plans_missing")}
    return {"columns": TRAJECTORY_COLUMNS, "rows": trajectory_rows(result), **counts}


def _open_loop(results: dict[str, Any] | None) -> dict | None:
    """`results` with formatted numbers, and confusion as shares of each row, for shading."""
    if results is None:
        return None
    headline = {
        words: ("{:.1f} px" if name.endswith("_px") else "{:.1%}").format(results[name])
        for name, words in HEADLINES.items()
        if name in results
    }
    counts = np.array(results["confusion"]["counts"], dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return {**results, "shares": shares.tolist(), "headline": headline}
