"""What an evaluation leaves: `metrics.json`, `metrics.md`, a self-contained `report.html`.

A benchmark gives sections, each a table of agents and cards of a few episodes of the first agent,
and says in words what its numbers and pictures show. All of it is text here, and escaped.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.images import opened_image
from internnav_hf.data.readers.json_files import read_json
from internnav_hf.evaluation.drawing import (
    agent_colors,
    data_uri,
    draw_decision,
    draw_map,
    draw_side_by_side,
    is_curve,
    jpeg,
    plot_training_curve,
)
from internnav_hf.evaluation.records import DecisionRecord, StoredRollout, spread
from internnav_hf.files import write_text
from internnav_hf.sim.scenes import Scene

# name in a summary -> (heading, what it means, number format)
Columns = dict[str, tuple[str, str, str]]
AnyRollout = TypeVar("AnyRollout", bound=StoredRollout)

VIEW_WIDTH = 300  # px of a view in the report
LARGEST_STATE = 2**26  # bytes of a trainer_state.json
LARGEST_ASPECT = 16  # of a view


@dataclass
class Section:
    """A table of agents (`agents`: summaries by name), and some episodes.

    `cards` have the pictures `map` and `views`, `is_success` (None if several agents' drives are
    side by side), the `name` of an episode, `facts` about it, and maybe `instruction` and
    `goal_view`. `left_out` are agents that are not measured here, and why. `colors` are those of
    the agents.
    """

    columns: Columns
    agents: dict[str, dict]
    cards: list[dict[str, Any]]
    name: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    colors: Mapping[str, str] | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table, row by row; `cells` are numbers with their intervals."""
        colors = self.colors or agent_colors(self.agents)
        rows = []
        for name, summary in self.agents.items():
            pairs = zip(cells(summary, self.columns), ranges(summary, self.columns), strict=True)
            rows.append({**summary, "name": name, "color": colors[name], "cells": [*pairs]})
        return rows


@dataclass
class CardMaker:
    """Makes the cards of a section: of episodes in the output folder `out`, whose views `camera`
    took, and whose scenes `scene_of` gives; `margin_m` as in `draw_map`.
    """

    out: Path
    scene_of: Callable[[str], Scene]
    success_distance: float
    camera: CameraSpec | None
    num_each: int
    margin_m: float | None = None

    def make(
        self,
        agents: dict[str, list[AnyRollout]],
        describe: Callable[[AnyRollout], dict[str, Any]],
        caption: Callable[[AnyRollout, DecisionRecord], dict[str, str]],
    ) -> list[dict[str, Any]]:
        """Cards of the first agent's episodes. `describe` gives the facts about an episode,
        `caption` the `when` and `detail` of a view.
        """
        (main, *others), colors = agents.values(), agent_colors(agents)
        cards = []
        for rollout in choose_episodes(main, self.success_distance, self.num_each):
            same = [r for agent in others for r in agent if r.episode == rollout.episode]
            scene, paths = self.scene_of(rollout.scene), [rollout, *same]
            picture = draw_map(scene, paths, self.success_distance, colors, self.margin_m)
            shown = spread([decision for decision in rollout.decisions if decision.image])
            card = {
                "instruction": None,
                "goal_view": None,
                "name": rollout.episode_id,
                "is_success": rollout.is_success(self.success_distance),
                "map": data_uri(picture, "png"),
                "views": [film_view(self.out, d, self.camera) | caption(rollout, d) for d in shown],
            }
            cards.append(card | describe(rollout))
        return cards

    def side_by_side(
        self,
        agents: dict[str, list[AnyRollout]],
        colors: Mapping[str, str],
        num_episodes: int,
        describe: Callable[[AnyRollout], dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """Cards of the same episodes of all agents, a map of each agent beside the others."""
        by_episode = [{rollout.episode: rollout for rollout in found} for found in agents.values()]
        cards = []
        for episode in spread_over_scenes([*by_episode[0]], num_episodes):
            driven = [found[episode] for found in by_episode]
            picture = draw_side_by_side(
                self.scene_of(episode[0]), driven, self.success_distance, colors, self.margin_m
            )
            card = {"instruction": None, "goal_view": None, "is_success": None, "views": []}
            card |= {"name": driven[0].episode_id, "map": data_uri(picture, "png")}
            cards.append(card | describe(driven[0]))
        return cards


def write_metrics(out: Path, results: dict, tables: Iterable[str]) -> None:
    """`metrics.json` and `metrics.md`."""
    numbers = json.dumps(results, indent=2, ensure_ascii=False)
    write_text(out / "metrics.json", numbers + "\n")
    write_text(out / "metrics.md", "\n\n".join(tables) + "\n")


def markdown_table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; cells are text, which stays in its cell."""

    def cell(text: str) -> str:
        return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")

    lines = [[*heading], *(map(cell, row) for row in rows)]
    table = [f"| {' | '.join(line)} |" for line in lines]
    table.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join(table)


def cells(summary: dict, columns: Columns) -> list[str]:
    """The numbers of a row; "-" for what was not measured."""
    return [
        "-" if summary[key] is None else number.format(summary[key])
        for key, (_, _, number) in columns.items()
    ]


def ranges(summary: dict, columns: Columns) -> list[str]:
    """The 95% intervals of a row, in the form of its numbers; empty where none is known."""
    intervals = summary.get("intervals", {})
    return [
        "–".join(map(number.format, intervals[key])) if key in intervals else ""
        for key, (_, _, number) in columns.items()
    ]


def spread_over_scenes(episodes: Sequence[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """At most `count` of (scene, episode): the first of each scene, then the second of each."""
    rounds: list[tuple[int, tuple[str, str]]] = []
    seen = Counter[str]()
    for episode in episodes:
        rounds.append((seen[episode[0]], episode))
        seen[episode[0]] += 1
    return [episode for _, episode in sorted(rounds, key=lambda one: one[0])][:count]


def write_report(
    out: Path,
    results: dict,
    sections: list[Section],
    legend: Columns,
    log_history: list[dict] | None = None,
    **words: Any,
) -> Path:
    """`report.html`, its pictures inside; `log_history` is that of a `trainer_state.json`.

    `words` are the `title`, the `intro`, an `explanation` of the pictures, and what `intervals`
    are, if there are any; `open_loop` and `trajectories` are measured without a simulator, if at
    all.
    """
    page = template("report.html").render(
        results=results,
        sections=sections,
        legend=legend,
        curve=data_uri(plot_training_curve(log_history), "png") if log_history else None,
        **{"open_loop": None, "trajectories": None, "intervals": None} | words,
    )
    path = out / "report.html"
    write_text(path, page)
    return path


def read_log_history(path: str | None) -> list[dict] | None:
    """The log of a trainer_state.json; ValueError for a file that cannot be one."""
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


def choose_episodes(
    rollouts: list[AnyRollout], success_distance: float, num_each: int = 3
) -> list[AnyRollout]:
    """The first successes and failures, those with pictures before those without."""
    chosen = []
    for wanted in (True, False):
        same = [r for r in rollouts if r.is_success(success_distance) == wanted]
        same.sort(key=lambda rollout: not any(d.image for d in rollout.decisions))
        chosen += same[:num_each]
    return chosen


def film_view(out: Path, decision: DecisionRecord, camera: CameraSpec | None) -> dict[str, Any]:
    """A kept view, drawn on, for the page; `camera` took it at its look-down pitch."""
    assert decision.image is not None
    path = out / decision.image
    if not path.resolve().is_relative_to(out.resolve()):
        raise broken(path, "image", "a file elsewhere", f"a view below {out}")
    with opened_image(path) as image:
        width, height = image.size
        if max(width, height) > LARGEST_ASPECT * min(width, height):
            raise broken(path, "size", f"{width}x{height} pixels", "a view of a camera")
        # Drawn on a small view, lines would be steps.
        scale = max(1, round(2 * VIEW_WIDTH / width))
        width, height = width * scale, height * scale
        large = image.resize((width, height), Image.Resampling.BICUBIC)
    if decision.goal_pixel is not None:
        u, v = decision.goal_pixel
        decision = replace(decision, goal_pixel=(u * scale, v * scale))
    if camera is not None:
        camera = replace(camera, width=width, height=height)
    size = (VIEW_WIDTH, round(VIEW_WIDTH * height / width))
    picture = draw_decision(large, decision, camera).resize(size, Image.Resampling.LANCZOS)
    return {"picture": data_uri(jpeg(picture), "jpeg"), "text": decision.text}
