"""Tables and report of visual navigation: one table of all tasks and agents, a section a task."""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from internnav_hf.evaluation import report
from internnav_hf.evaluation.drawing import agent_colors, data_uri, jpeg
from internnav_hf.evaluation.records import DecisionRecord
from internnav_hf.evaluation.report import (
    CardMaker,
    Columns,
    Section,
    cells,
    markdown_table,
    ranges,
)
from internnav_hf.evaluation.visual_navigation.episodes import DrivingScenes
from internnav_hf.evaluation.visual_navigation.metrics import episode_metrics
from internnav_hf.evaluation.visual_navigation.rollout import DrivingRollout

COLUMNS: Columns = {
    "sr": ("SR ↑", "success rate: the episode ends near the goal, however it ends", "{:.1%}"),
    "spl": ("SPL ↑", "success weighted by straight / driven distance, as published", "{:.3f}"),
    "geodesic_spl": ("SPL* ↑", "the same with the shortest path around obstacles", "{:.3f}"),
    "goal_distance_m": ("distance ↓", "metres to the goal at the end", "{:.2f} m"),
    "explored_area_m2": ("area ↑", "floor plan that was seen", "{:.1f} m²"),
    "time_s": ("time", "until the end; longer is better without a goal", "{:.1f} s"),
    "collided_share": ("hit ↓", "share of episodes in which something was run into", "{:.1%}"),
    "contact_share": ("contact ↓", "share of control steps that ran into something", "{:.1%}"),
    "contact_time_s": (
        "until contact ↑",
        "until the first contact, or the end if there was none",
        "{:.1f} s",
    ),
    "path_length_m": ("driven", "metres", "{:.1f} m"),
    "latency_p50_ms": (
        "wait p50 ↓",
        "median wait for a plan, in a call that the robots planning at that moment share",
        "{:.1f} ms",
    ),
    "latency_p95_ms": ("wait p95 ↓", "its 95% quantile", "{:.1f} ms"),
}
MAP_MARGIN_M = 2.0
NUM_EPISODES = 2  # successes shown of each task, and as many failures
NUM_COMPARED = 4  # episodes of each task in which the drives of several models are compared
Rollouts = dict[str, dict[str, list[DrivingRollout]]]  # task -> agent -> episodes
EXPLANATION = (
    "Episodes: the first successes and the first failures that finished, not the prettiest. Dashed "
    "black: shortest path. Dotted circle: success. Square: success, cross: failure. Thin lines: "
    "sampled trajectories, in colours by the critic's value in their bundle; on the views, white "
    "is the best. A ring is the pixel goal."
)
COMPARISON = (
    "Each row of maps is one episode, driven by each agent: the first episode of each of the first "
    "scenes, however it went. Dashed black: shortest path. Dotted circle: success. Square: "
    "success, cross: failure. Thin lines: sampled trajectories, in colours by the critic's value."
)
INTERVALS = (
    "Small numbers are 95% intervals over episodes: Wilson's of SR and hit, by resampling episodes "
    "(seed {seed}) of all others."
)


def write_metrics(out: Path, results: dict) -> None:
    """`metrics.json` and `metrics.md`; `results["tasks"]` maps tasks to agents to summaries."""
    rows = []
    for task, agents in results["tasks"].items():
        for name, summary in agents.items():
            pairs = zip(cells(summary, COLUMNS), ranges(summary, COLUMNS), strict=True)
            numbers = [f"{cell} ({range_})" if range_ else cell for cell, range_ in pairs]
            rows.append([task, name, *numbers, str(summary["num_episodes"])])
        for name, can_do in results["left_out"][task].items():
            rows.append([task, name, f"left out: drives {can_do}", *["-"] * len(COLUMNS)])
    names = ["task", "agent", *(heading for heading, _, _ in COLUMNS.values()), "episodes"]
    words = INTERVALS.format(**results["settings"]).replace("Small numbers", "In brackets")
    report.write_metrics(out, results, [markdown_table(names, rows), words])


def columns_of(agents: dict[str, dict]) -> Columns:
    """The columns that the task has numbers for."""
    return {
        key: column
        for key, column in COLUMNS.items()
        if any(summary[key] is not None for summary in agents.values())
    }


def write_report(
    out: Path,
    results: dict,
    rollouts: Rollouts,
    scenes: DrivingScenes,
    success_radius: float,
    log_history: list[dict] | None = None,
) -> Path:
    """`report.html`, its pictures inside; `log_history` is that of a `trainer_state.json`.

    Of one model some drives are shown with its views; of several, episodes side by side.
    """

    def describe(rollout: DrivingRollout) -> dict[str, str | None]:
        facts = _facts(rollout, success_radius)
        return {"facts": facts, "goal_view": _goal_view(rollout, scenes)}

    def compare(rollout: DrivingRollout) -> dict[str, str | None]:
        return {"facts": _place(rollout), "goal_view": _goal_view(rollout, scenes)}

    seen_at = replace(scenes.camera, look_down_pitch_deg=scenes.camera.pitch_deg)
    maker = CardMaker(out, scenes.scene, success_radius, seen_at, NUM_EPISODES, MAP_MARGIN_M)
    is_comparison = len(results["models"]) > 1
    colors = agent_colors(name for agents in results["tasks"].values() for name in agents)
    sections = [
        Section(
            columns_of(results["tasks"][task]),
            results["tasks"][task],
            maker.side_by_side(agents, colors, NUM_COMPARED, compare)
            if is_comparison
            else maker.make(agents, describe, caption),
            name=task,
            left_out={n: f"drives {can}" for n, can in results["left_out"][task].items()},
            colors=colors,
        )
        for task, agents in rollouts.items()
    ]
    return report.write_report(
        out,
        results,
        sections,
        COLUMNS,
        log_history,
        title="Visual navigation report",
        intro=_intro(results["settings"]),
        explanation=COMPARISON if is_comparison else EXPLANATION,
        intervals=INTERVALS.format(**results["settings"]),
    )


def _intro(settings: dict) -> str:
    num_scenes = settings["num_scenes"]
    words = f"{num_scenes} {'scene' if num_scenes == 1 else 'scenes'}"
    if settings["scene"] is None:
        words += f" of density “{settings['density']}”, generated with seeds that no dataset uses"
    words += (
        f". Success: the episode ends less than {settings['success_radius']:g} m from the goal. It "
        f"ends when the robot is less than {settings['arrival_distance']:g} m away and slow, when "
        f"it is stuck ({settings['stuck_steps']} control steps within "
        f"{settings['stuck_distance']:g} m), or after {settings['time_limit']:g} s"
    )
    at_contact = "; without a goal also at the first obstacle met"
    words += (at_contact if settings["end_at_contact"] else "") + "."
    published = " Models run as NavDP's published servers ran them, with their mistakes."
    return words + (published if settings["as_benchmarked"] else "")


def _facts(rollout: DrivingRollout, success_radius: float) -> str:
    metrics = episode_metrics(rollout, success_radius)
    facts = [rollout.agent, rollout.scene, rollout.episode_id]
    if rollout.goal is None:
        facts.append(f"saw {rollout.explored_area:.1f} m² ({rollout.ending})")
    else:
        distances = f"goal {rollout.straight_distance:.1f} m away, ends {rollout.goal_distance:.2f}"
        facts.append(f"{distances} m from it ({rollout.ending})")
    facts += [f"{metrics['time_s']:.1f} s", f"{metrics['path_length_m']:.1f} m driven"]
    facts.append(f"{len(rollout.decisions)} plans")
    return " · ".join(facts + (["ran into something"] if metrics["collided_share"] else []))


def _place(rollout: DrivingRollout) -> str:
    """What all agents have in common in an episode."""
    facts = [rollout.scene, rollout.episode_id]
    if rollout.goal is not None:
        distances = (rollout.straight_distance, rollout.geodesic_distance)
        facts.append("goal {:.1f} m away, {:.1f} m around obstacles".format(*distances))
    return " · ".join(facts)


def caption(rollout: DrivingRollout, plan: DecisionRecord) -> dict[str, str]:
    """When a view was seen, and what the critic made of the trajectories."""
    detail = f"· critic {plan.values[-1]:.2f} to {plan.values[0]:.2f}" if plan.values else ""
    return {"when": f"{plan.step * rollout.control_period:.1f} s", "detail": detail}


def _goal_view(rollout: DrivingRollout, scenes: DrivingScenes) -> str | None:
    """The goal's picture, in the task that has one."""
    if rollout.task != "image-goal" or rollout.goal is None:
        return None
    view = scenes.view(rollout.scene, rollout.goal).rgb
    return data_uri(jpeg(Image.fromarray(view)), "jpeg")
