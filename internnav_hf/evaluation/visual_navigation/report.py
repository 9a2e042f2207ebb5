"""What a visual-navigation evaluation leaves: `metrics.json`, `metrics.md`, `report.html`.

One table of all tasks and agents; for each task, episodes of the first agent with maps and views,
on which bundles of trajectories have the colours of its critic's values.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from internnav_hf.evaluation.drawing import (
    PLAN_PIXELS_PER_METRE,
    PlanAxes,
    agent_color,
    data_uri,
    jpeg,
    plain,
    plan_figure,
    plot_training_curve,
    png,
    value_colors,
)
from internnav_hf.evaluation.report import film_view, filmstrip, markdown_cell, template
from internnav_hf.evaluation.visual_navigation.episodes import System1Course
from internnav_hf.evaluation.visual_navigation.metrics import system1_metrics
from internnav_hf.evaluation.visual_navigation.rollout import System1Rollout
from internnav_hf.files import write_text
from internnav_hf.sim.render import top_down
from internnav_hf.sim.scenes import Scene

# name in a summary -> (heading, what it means, number format)
COLUMNS = {
    "sr": ("SR ↑", "success rate: the episode ends near the goal, however it ends", "{:.1%}"),
    "spl": ("SPL ↑", "success weighted by straight / driven distance, as published", "{:.3f}"),
    "geodesic_spl": ("SPL* ↑", "the same with the shortest way around obstacles", "{:.3f}"),
    "goal_distance_m": ("distance ↓", "metres to the goal at the end", "{:.2f} m"),
    "explored_area_m2": ("area ↑", "floor plan that was seen", "{:.1f} m²"),
    "time_s": ("time", "until the end; longer is better without a goal", "{:.1f} s"),
    "collided_share": ("hit ↓", "share of episodes in which something was run into", "{:.1%}"),
    "contact_share": ("contact ↓", "share of control steps that ran into something", "{:.1%}"),
    "path_length_m": ("driven", "metres", "{:.1f} m"),
}
MAP_MARGIN_M = 2.0
NUM_EPISODES = 2  # successes shown of each task, and as many failures
Rollouts = dict[str, dict[str, list[System1Rollout]]]  # task -> agent -> episodes


def write_system1_metrics(out: Path, results: dict) -> None:
    """`metrics.json` and `metrics.md`; `results["tasks"]` maps tasks to agents to summaries."""
    numbers = json.dumps(results, indent=2, ensure_ascii=False)
    write_text(out / "metrics.json", numbers + "\n")
    write_text(out / "metrics.md", markdown_table(results["tasks"]) + "\n")


def markdown_table(tasks: dict[str, dict[str, dict]]) -> str:
    """One row a task and agent."""
    headings = " | ".join(heading for heading, _, _ in COLUMNS.values())
    lines = [f"| task | agent | {headings} | episodes |", "|---|---|" + "---|" * (len(COLUMNS) + 1)]
    for task, agents in tasks.items():
        for name, summary in agents.items():
            row = " | ".join(cells(summary, COLUMNS))
            names = f"{markdown_cell(task)} | {markdown_cell(name)}"
            lines.append(f"| {names} | {row} | {summary['num_episodes']} |")
    return "\n".join(lines)


def cells(summary: dict, columns: dict) -> list[str]:
    """Of a row; what the task does not have is "-"."""
    return [
        "-" if summary[key] is None else number.format(summary[key])
        for key, (_, _, number) in columns.items()
    ]


def columns_of(agents: dict[str, dict]) -> dict:
    """Those of COLUMNS that the task has."""
    return {
        key: column
        for key, column in COLUMNS.items()
        if any(summary[key] is not None for summary in agents.values())
    }


def write_system1_report(
    out: Path,
    results: dict,
    rollouts: Rollouts,
    course: System1Course,
    success_radius: float,
    log_history: list[dict] | None = None,
) -> Path:
    """`report.html`, its pictures inside; `log_history` is that of a `trainer_state.json`."""
    sections = [
        {
            "name": task,
            "columns": (shown := columns_of(results["tasks"][task])),
            "rows": _rows(results["tasks"][task], shown),
            "episodes": _cards(out, agents, course, success_radius),
        }
        for task, agents in rollouts.items()
    ]
    page = template("system1_report.html").render(
        results=results,
        sections=sections,
        legend=COLUMNS,
        curve=data_uri(plot_training_curve(log_history), "png") if log_history else None,
    )
    path = out / "report.html"
    write_text(path, page)
    return path


def _rows(agents: dict[str, dict], columns: dict) -> list[dict]:
    return [
        {
            "name": name,
            "color": agent_color(name, position),
            "cells": cells(summary, columns),
            "sr": summary["sr"],
            "interval": summary.get("sr_interval"),
            "endings": summary["endings"],
            "num_episodes": summary["num_episodes"],
        }
        for position, (name, summary) in enumerate(agents.items())
    ]


def _cards(
    out: Path, agents: dict[str, list[System1Rollout]], course: System1Course, radius: float
) -> list[dict]:
    """Of the first agent: the episodes whose views were kept, successes first."""
    main, *others = agents.values()
    cards = []
    for rollout in choose_episodes(main, radius):
        name = (rollout.scene, rollout.episode_id)
        same = [r for agent in others for r in agent if (r.scene, r.episode_id) == name]
        seen_at = replace(course.camera, look_down_pitch_deg=course.camera.pitch_deg)
        cards.append(
            {
                "rollout": rollout,
                "success": rollout.is_success(radius),
                "metrics": system1_metrics(rollout, radius),
                "map": _map(course, [rollout, *same], radius),
                "goal_view": _goal_view(rollout, course),
                "views": [film_view(out, plan, seen_at) for plan in filmstrip(rollout)],
            }
        )
    return cards


def _map(course: System1Course, rollouts: list[System1Rollout], radius: float) -> str:
    return data_uri(draw_drives(course.scene(rollouts[0].scene), rollouts, radius), "png")


def choose_episodes(rollouts: list[System1Rollout], radius: float) -> list[System1Rollout]:
    """The first successes and failures, those with pictures before those without."""
    chosen = []
    for wanted in (True, False):
        same = [rollout for rollout in rollouts if rollout.is_success(radius) == wanted]
        same.sort(key=lambda rollout: not any(plan.image for plan in rollout.decisions))
        chosen += same[:NUM_EPISODES]
    return chosen


def _goal_view(rollout: System1Rollout, course: System1Course) -> str | None:
    """What the robot was shown, where that was a picture."""
    if rollout.task != "image-goal" or rollout.goal is None:
        return None
    view = course.view(rollout.scene, rollout.goal).rgb
    return data_uri(jpeg(Image.fromarray(view)), "jpeg")


def draw_drives(scene: Scene, rollouts: list[System1Rollout], success_radius: float) -> bytes:
    """PNG of where everyone was, seen from above, with everyone's path. Of the first rollout, on
    top, also the bundles of the plans whose views are shown.
    """
    main = rollouts[0]
    plan, T_pixel_world = top_down(scene, PLAN_PIXELS_PER_METRE)
    places = [rollout.positions for rollout in rollouts] + [main.reference_path]
    low, high = _shown(plan, T_pixel_world, np.concatenate(places))
    figure, axes = plan_figure((high - low)[0] / (high - low)[1])
    axes.imshow(plan)
    plot = PlanAxes(axes, T_pixel_world)
    _draw_task(plot, main, success_radius)
    for decision in filmstrip(main):
        paths = decision.trajectories or []
        colors = value_colors(decision.values or np.zeros(len(paths)))
        for path, color in reversed(list(zip(paths, colors, strict=True))):
            plot.plot(path, "-", color=color, lw=0.7, alpha=0.75, zorder=4)
    for position, rollout in reversed(list(enumerate(rollouts))):
        color, is_main = agent_color(rollout.agent, position), position == 0
        width, order = (2.6, 6) if is_main else (1.4, 5)
        plot.plot(rollout.positions, "-", color="white", lw=width + 1.4, alpha=0.8, zorder=order)
        label = plain(f"{rollout.agent} ({rollout.ending})")
        plot.plot(rollout.positions, "-", color=color, lw=width, label=label, zorder=order)
        marker = "s" if rollout.is_success(success_radius) else "X"
        plot.plot(rollout.positions[-1:], marker, color=color, ms=8, mec="white", zorder=7)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(high[1], low[1])
    axes.set_axis_off()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False, fontsize=8)
    return png(figure)


def _shown(
    plan: np.ndarray, T_pixel_world: np.ndarray, xy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (2,) in pixels of the part of the plan around the places (N, 2)."""
    pixels = np.concatenate([xy, np.ones((len(xy), 1))], axis=1) @ T_pixel_world.T
    margin = MAP_MARGIN_M * PLAN_PIXELS_PER_METRE
    low = np.maximum(pixels.min(axis=0) - margin, 0)
    return low, np.minimum(pixels.max(axis=0) + margin, plan.shape[1::-1])


def _draw_task(plot: PlanAxes, rollout: System1Rollout, success_radius: float) -> None:
    start, yaw = rollout.positions[0], rollout.start_yaw
    nose = start + 0.35 * np.array([np.cos(yaw), np.sin(yaw)])
    plot.plot([start, nose], "-", color="black", lw=2.2, zorder=8)
    style = {"marker": "o", "ms": 8, "mfc": "white", "mec": "black", "mew": 2, "ls": "none"}
    plot.plot([start], label="start", zorder=8, **style)
    if rollout.goal is None:
        return
    goal = np.array(rollout.goal[:2])
    angle = np.linspace(0, 2 * np.pi, 60)
    circle = goal + np.stack([np.cos(angle), np.sin(angle)], axis=1) * success_radius
    plot.plot(circle, ":", color="#f08c00", lw=1.6, zorder=3)
    plot.plot(rollout.reference_path, "--", color="black", lw=1.2, label="shortest way", zorder=5)
    style = {"marker": "*", "ms": 15, "mfc": "#ffd43b", "mec": "black", "ls": "none"}
    plot.plot([goal], label="goal", zorder=8, **style)
