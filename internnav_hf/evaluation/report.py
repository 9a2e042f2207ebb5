"""What an evaluation leaves: `metrics.json`, `metrics.md`, a self-contained `report.html`."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.images import opened_image
from internnav_hf.data.readers.json_files import read_json
from internnav_hf.evaluation.drawing import (
    agent_color,
    data_uri,
    draw_decision,
    draw_map,
    is_curve,
    jpeg,
    plot_training_curve,
)
from internnav_hf.evaluation.metrics import episode_metrics
from internnav_hf.evaluation.records import STEP, DecisionRecord, Rollout, StoredRollout
from internnav_hf.files import write_text
from internnav_hf.sim.scenes import Scene

# name in a summary -> (heading, what it means, number format)
COLUMNS = {
    "sr": ("SR ↑", "success rate: stopped by itself, close to the goal", "{:.1%}"),
    "spl": ("SPL ↑", "success weighted by shortest / walked distance", "{:.3f}"),
    "os": ("OS ↑", "oracle success: was close to the goal at any moment", "{:.1%}"),
    "ne": ("NE ↓", "navigation error: metres to the goal at the end", "{:.2f} m"),
    "ndtw": ("nDTW ↑", "how faithfully the reference path was followed", "{:.3f}"),
    "collision_rate": ("CR ↓", "share of actions that ran into something", "{:.1%}"),
    "tl": ("TL", "metres walked", "{:.1f} m"),
    "steps": ("steps", "actions, STOP included", "{:.0f}"),
}
MAX_FILMSTRIP_VIEWS = 8
VIEW_WIDTH = 300  # px of a view in the report
LARGEST_STATE = 2**26  # bytes of a trainer_state.json
LARGEST_ASPECT = 16  # of a view


def write_metrics(out: Path, results: dict) -> None:
    """`metrics.json` and `metrics.md`; `results["agents"]` maps agent names to summaries."""
    numbers = json.dumps(results, indent=2, ensure_ascii=False)
    write_text(out / "metrics.json", numbers + "\n")
    tables = [markdown_table(results["agents"])]
    if "dual_open_loop" in results:
        tables.append(markdown_trajectories(results["dual_open_loop"]))
    write_text(out / "metrics.md", "\n\n".join(tables) + "\n")


def markdown_cell(text: str) -> str:
    """Text that stays in its cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def markdown_table(agents: dict[str, dict]) -> str:
    """One row an agent."""
    lines = [
        "| agent | " + " | ".join(heading for heading, _, _ in COLUMNS.values()) + " | episodes |",
        "|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for name, summary in agents.items():
        cells = [number.format(summary[key]) for key, (_, _, number) in COLUMNS.items()]
        row = " | ".join([markdown_cell(name), *cells])
        lines.append(f"| {row} | {summary['num_episodes']} |")
    return "\n".join(lines)


def markdown_trajectories(result: dict[str, float]) -> str:
    """One row an answer to where the expert went."""
    lines = ["| trajectory | " + " | ".join(TRAJECTORY_COLUMNS) + " |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in trajectory_rows(result)]
    return "\n".join(lines)


def trajectory_rows(result: dict[str, float]) -> list[tuple[str, list[str]]]:
    """Name and cells of each row of the dual system's open loop; what was not measured is "-"."""
    formats = ("{:.2f} m", "{:.2f} m", "{:.0f}°", "{:.1%}")
    return [
        (
            name,
            [
                number.format(result[key]) if key in result else "-"
                for key, number in zip(keys, formats, strict=True)
            ],
        )
        for name, keys in TRAJECTORY_ROWS.items()
    ]


def write_report(
    out: Path,
    results: dict,
    rollouts: dict[str, list[Rollout]],
    scene_of: Callable[[str], Scene],
    success_distance: float,
    log_history: list[dict] | None = None,
    camera: CameraSpec | None = None,
) -> Path:
    """`report.html`, its pictures inside; `log_history` is that of a `trainer_state.json`, `camera`
    took the views.
    """
    page = template("report.html").render(
        results=results,
        rows=_table_rows(results["agents"]),
        columns=COLUMNS,
        success_distance=success_distance,
        episodes=_episode_cards(out, rollouts, scene_of, success_distance, camera),
        open_loop=_open_loop(results.get("open_loop")),
        trajectories=_trajectories(results.get("dual_open_loop")),
        curve=data_uri(plot_training_curve(log_history), "png") if log_history else None,
    )
    path = out / "report.html"
    write_text(path, page)
    return path


def read_log_history(path: str | None) -> list[dict] | None:
    """Of a trainer_state.json; ValueError for a file that cannot be one."""
    if path is None:
        return None
    size, expected = os.path.getsize(path), "the trainer_state.json of a training"
    if size > LARGEST_STATE:
        raise broken(path, "file", f"{size} bytes", f"{expected}, at most {LARGEST_STATE}")
    history = read_json(Path(path), dict, expected).get("log_history")
    if not isinstance(history, list):
        raise broken(path, "log_history", shown(history), "a list")
    for index, entry in enumerate(history):
        where = f"log_history[{index}]"
        if not isinstance(entry, dict):
            raise broken(path, where, shown(entry), "names and numbers")
        for name, value in entry.items():
            if (name == "step" or is_curve(name)) and not _is_number(value):
                raise broken(path, f"{where}.{name}", shown(value), "a number")
    return history


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and (value != value or abs(value) < 1e300)


def template(name: str) -> Any:
    """A page of this folder."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: (files(__package__) / name).read_text("utf-8")),
    )
    return environment.get_template(name)


def _table_rows(agents: dict[str, dict]) -> list[dict]:
    return [
        {
            "name": name,
            "color": agent_color(name, position),
            "cells": [number.format(summary[key]) for key, (_, _, number) in COLUMNS.items()],
            "interval": summary["sr_interval"],
            "sr": summary["sr"],
            "num_episodes": summary["num_episodes"],
        }
        for position, (name, summary) in enumerate(agents.items())
    ]


def _episode_cards(
    out: Path,
    rollouts: dict[str, list[Rollout]],
    scene_of: Callable[[str], Scene],
    success_distance: float,
    camera: CameraSpec | None,
) -> list[dict]:
    """Of the first agent: the episodes whose views were kept, successes first."""
    main, *others = rollouts.values()
    others_by_name = [{(r.scene, r.episode_id): r for r in agent} for agent in others]
    cards = []
    for rollout in choose_episodes(main, success_distance):
        same = [agent.get((rollout.scene, rollout.episode_id)) for agent in others_by_name]
        walked = [rollout, *(other for other in same if other is not None)]
        picture = draw_map(scene_of(rollout.scene), walked, success_distance)
        cards.append(
            {
                "instruction": rollout.instruction,
                "name": rollout.episode_id,
                "metrics": episode_metrics(rollout, success_distance),
                "rollout": rollout,
                "map": data_uri(picture, "png"),
                "views": [film_view(out, decision, camera) for decision in filmstrip(rollout)],
                "num_decisions": sum(d.kind != STEP for d in rollout.decisions),
            }
        )
    return cards


def choose_episodes(
    rollouts: list[Rollout], success_distance: float, num_each: int = 3
) -> list[Rollout]:
    """The first successes and failures, those with pictures before those without."""
    chosen = []
    for wanted in (1.0, 0.0):
        same = [r for r in rollouts if episode_metrics(r, success_distance)["success"] == wanted]
        same.sort(key=lambda rollout: not any(d.image for d in rollout.decisions))
        chosen += same[:num_each]
    return chosen


def filmstrip(rollout: StoredRollout) -> list[DecisionRecord]:
    """Decisions with pictures, evenly spread, the first and the last among them."""
    shown = [decision for decision in rollout.decisions if decision.image]
    count = min(MAX_FILMSTRIP_VIEWS, len(shown))
    return [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, count).round().astype(int))]


def film_view(out: Path, decision: DecisionRecord, camera: CameraSpec | None) -> dict:
    """A kept view, drawn on, for the page; `camera` took it at its look-down pitch."""
    assert decision.image is not None
    path = out / decision.image
    if not path.resolve().is_relative_to(out.resolve()):
        raise broken(path, "image", "a file elsewhere", f"a view below {out}")
    with opened_image(path) as image:
        width, height = image.size
        if max(width, height) > LARGEST_ASPECT * min(width, height):
            raise broken(path, "size", f"{width}x{height} pixels", "a view of a camera")
        picture = _enlarged(image, decision, camera)
    size = (VIEW_WIDTH, round(VIEW_WIDTH * picture.height / picture.width))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    return {"picture": data_uri(jpeg(picture), "jpeg"), "decision": decision}


def _enlarged(
    image: Image.Image, decision: DecisionRecord, camera: CameraSpec | None
) -> Image.Image:
    """Drawn on a small view, lines would be steps."""
    scale = max(1, round(2 * VIEW_WIDTH / image.width))
    width, height = image.width * scale, image.height * scale
    if decision.goal_pixel is not None:
        u, v = decision.goal_pixel
        decision = replace(decision, goal_pixel=(u * scale, v * scale))
    if camera is not None:
        camera = replace(camera, width=width, height=height)
    large = image.resize((width, height), Image.Resampling.BICUBIC)
    return draw_decision(large, decision, camera)


# name in the open-loop result -> (what to call it, number format)
HEADLINES = {
    "pixel_error_px": ("mean pixel error", "{:.1f} px"),
    "pixel_error_median_px": ("median pixel error", "{:.1f} px"),
    "pixel_error_constant_px": ("error of the best constant answer", "{:.1f} px"),
    "within_20px": ("within 20 px", "{:.1%}"),
    "pixel_error_own_px": ("error where it chose to point", "{:.1f} px"),
    "action_accuracy": ("right action", "{:.1%}"),
    "balanced_accuracy": ("right action, classes weighing the same", "{:.1%}"),
    "format_validity": ("answers that can be parsed", "{:.1%}"),
}


TRAJECTORY_COLUMNS = ("ADE ↓", "FDE ↓", "heading error ↓", "runs into something ↓")
# row -> its numbers in the result of the dual system's open loop
TRAJECTORY_ROWS = {
    "dual: mean path": ("ade_m", "fde_m", "heading_error_deg", "mean_path_collision_share"),
    "dual: nearest sample; all samples": ("best_ade_m", "best_fde_m", "", "collision_share"),
    **{
        words: tuple(
            f"{name}_{key}" for key in ("ade_m", "fde_m", "heading_error_deg", "collision_share")
        )
        for name, words in (
            ("straight", "straight to System2's pixel"),
            ("constant", "always the mean way"),
            ("expert", "the expert's way"),
        )
    },
}


def _trajectories(result: dict[str, float] | None) -> dict | None:
    if result is None:
        return None
    counts = {name: int(result[name]) for name in ("num_samples", "num_plans_missing")}
    return {"columns": TRAJECTORY_COLUMNS, "rows": trajectory_rows(result), **counts}


def _open_loop(results: dict | None) -> dict | None:
    """With numbers to read, and the confusion matrix as shares of each row, for shading."""
    if results is None:
        return None
    headline = {
        words: number.format(results[name])
        for name, (words, number) in HEADLINES.items()
        if name in results
    }
    counts = np.array(results["confusion"]["counts"], dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return {**results, "shares": shares.tolist(), "headline": headline}
