"""Tables and report of visual navigation: one table of all tasks and agents, a section a task."""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from internnav_hf.evaluation import report
from internnav_hf.evaluation.drawing import data_uri, jpeg
from internnav_hf.evaluation.records import DecisionRecord
from internnav_hf.evaluation.report import CardMaker, Columns, Section, cells, markdown_table
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
    "path_length_m": ("driven", "metres", "{:.1f} m"),
}
MAP_MARGIN_M = 2.0
NUM_EPISODES = 2  # successes shown of each task, and as many failures
Rollouts = dict[str, dict[str, list[DrivingRollout]]]  # task -> agent -> episodes
EXPLANATION = (
    "Episodes: the first successes and the first failures that finished, not the prettiest. Dashed "
    "black: shortest path. Dotted circle: success. Square: success, cross: failure. Thin lines: "
    "sampled trajectories, in colours by the critic's value in their bundle; on the views, white "
    "is the best. A ring is the pixel goal."
)


def write_metrics(out: Path, results: dict) -> None:
    """`metrics.json` and `metrics.md`; `results["tasks"]` maps tasks to agents to summaries."""
    rows = [
        [task, name, *cells(summary, COLUMNS), str(summary["num_episodes"])]
        for task, agents in results["tasks"].items()
        for name, summary in agents.items()
    ]
    names = ["task", "agent", *(heading for heading, _, _ in COLUMNS.values()), "episodes"]
    report.write_metrics(out, results, [markdown_table(names, rows)])


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
    """`report.html`, its pictures inside; `log_history` is that of a `trainer_state.json`."""

    def describe(rollout: DrivingRollout) -> dict[str, str | None]:
        facts = _facts(rollout, success_radius)
        return {"facts": facts, "goal_view": _goal_view(rollout, scenes)}

    seen_at = replace(scenes.camera, look_down_pitch_deg=scenes.camera.pitch_deg)
    maker = CardMaker(out, scenes.scene, success_radius, seen_at, NUM_EPISODES, MAP_MARGIN_M)
    sections = [
        Section(
            columns_of(results["tasks"][task]),
            results["tasks"][task],
            maker.make(agents, describe, caption),
            name=task,
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
        explanation=EXPLANATION,
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
    return words + (at_contact if settings["end_at_contact"] else "") + "."


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
