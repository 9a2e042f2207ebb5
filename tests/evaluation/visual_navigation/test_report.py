"""The visual-navigation report: complete, self-contained, readable."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from internnav_hf.evaluation.drawing import draw_decision, draw_map, value_colors
from internnav_hf.evaluation.records import DecisionRecord
from internnav_hf.evaluation.report import choose_episodes
from internnav_hf.evaluation.rollout import RolloutStore, finish_tasks
from internnav_hf.evaluation.visual_navigation.agents import Oracle, PolicyAgent, StraightLine
from internnav_hf.evaluation.visual_navigation.drive import DrivingRules, DrivingRun
from internnav_hf.evaluation.visual_navigation.metrics import summarize
from internnav_hf.evaluation.visual_navigation.report import (
    MAP_MARGIN_M,
    write_metrics,
    write_report,
)
from internnav_hf.evaluation.visual_navigation.rollout import DrivingRollout, run_agent
from internnav_hf.geometry import camera_pose, project
from tests.evaluation import hostile
from tests.evaluation.visual_navigation.scenes import CAMERA, SCENES, FanPolicy, episode

LOG = [{"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.0}]
RULES = DrivingRules(time_limit=6.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Output folder, results and rollouts of three agents in two tasks."""
    out = tmp_path_factory.mktemp("report")
    goals = {"image-goal": (4.0, 1.0, 0.0), "no-goal": None}
    rollouts = {}
    for task, goal in goals.items():
        tasks = [("hall", episode((1.0, 1.0 + i, 0.1), goal, f"{task}_{i}")) for i in range(2)]
        rollouts[task] = {
            agent.name: drive(agent, task, tasks, out)
            for agent in (PolicyAgent(FanPolicy(), "navdp"), StraightLine(), Oracle())
        }
    settings = {name: getattr(RULES, name) for name in RULES.__dataclass_fields__}
    results = {
        "tasks": {
            task: {name: summarize(found, 1.5, 0) for name, found in agents.items()}
            for task, agents in rollouts.items()
        },
        "left_out": {"image-goal": {}, "no-goal": {}},
        "model": "outputs/<model>",
        "models": {"navdp": "outputs/<model>"},
        "command": "python scripts/evaluate.py",
        "settings": {
            **settings,
            "num_scenes": 1,
            "scene": None,
            "density": "easy",
            "seed": 0,
            "as_benchmarked": True,
        },
    }
    write_metrics(out, results)
    write_report(out, results, rollouts, SCENES, 1.5, LOG)
    return out, rollouts


def drive(agent, task, tasks, out):
    def start(name, which):
        return DrivingRun(SCENES.places[name], CAMERA, RULES, task, which)

    def run(remaining, on_finished):
        run_agent(agent, remaining, start, 2, on_finished)

    store = RolloutStore(out, 1.5, 2, DrivingRollout)
    return finish_tasks(run, tasks, store, {"agent": agent.name, "task": task})


def test_one_table_of_all_tasks(written):
    out, _ = written
    tasks = json.loads((out / "metrics.json").read_text())["tasks"]
    assert {name: set(agents) for name, agents in tasks.items()} == {
        "image-goal": {"navdp", "straight-line", "oracle"},
        "no-goal": {"navdp", "straight-line", "oracle"},
    }
    table = (out / "metrics.md").read_text().split("\n\n")[0].splitlines()
    assert len(table) == 8
    assert len({line.count("|") for line in table}) == 1
    assert "| no-goal | oracle | - | - | - | - |" in table[-1]


def test_the_report_needs_nothing_but_itself(written):
    page = (written[0] / "report.html").read_text()
    assert "://" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "outputs/&lt;model&gt;" in page
    assert "<style>" in page
    assert "as NavDP&#39;s published servers ran them" in page


def test_the_report_has_maps_views_the_goals_picture_and_a_curve(written):
    out, rollouts = written
    page = (out / "report.html").read_text()
    pictures = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', page)
    num_cards = sum(len(choose_episodes(agents["navdp"], 1.5, 2)) for agents in rollouts.values())
    assert [kind for kind, _ in pictures].count("png") == num_cards + 1
    assert [kind for kind, _ in pictures].count("jpeg") > num_cards
    assert page.count("the goal's picture") == 2
    for _, content in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(content)))
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_views_are_kept_of_those_who_look(written):
    out, rollouts = written
    for plan in rollouts["image-goal"]["navdp"][0].decisions:
        assert (out / plan.image).is_file()
        assert len(plan.values) == len(plan.trajectories) == 5
    assert not any(plan.image for plan in rollouts["image-goal"]["oracle"][0].decisions)


def test_colours_say_what_the_critic_says():
    low, middle, high = value_colors([-2.0, 0.0, 2.0])
    assert low.argmax() == 0  # red
    assert high.argmax() == 2  # blue
    assert middle.argmax() == 1
    assert np.isfinite(value_colors([1.0, 1.0])).all()


def test_a_bundle_is_drawn_in_these_colours_and_the_best_in_white():
    paths = [[[0.0, 0.0], [3.0, y]] for y in (0.0, 1.0, -1.0)]
    plan = DecisionRecord(
        0, "PLAN", "", (0.0, 0.0), trajectories=paths, values=[1.0, 0.9, -1.0], yaw=0.0
    )
    camera = CAMERA.__class__(width=320, height=240, look_down_pitch_deg=30)
    drawn = np.asarray(draw_decision(Image.new("RGB", (320, 240)), plan, camera)).astype(int)
    T_world_camera = camera_pose(0, 0, 0, camera.height_m, np.radians(30))
    ends = np.array([[*np.array(path[1]) * 0.9, 0.0] for path in paths])
    colors = []
    for u, v in project(ends, T_world_camera, camera.intrinsics)[0].astype(int):
        colors.append(drawn[v - 2 : v + 3, u - 2 : u + 3].reshape(-1, 3).max(axis=0))
    assert colors[0].min() == 255
    assert colors[1].argmax() == 2
    assert colors[2].argmax() == 0


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def test_the_map_shows_bundle_and_goal(written):
    _, rollouts = written
    main = rollouts["image-goal"]["navdp"][0]
    scene = SCENES.scene("hall")
    hidden = DrivingRollout.from_dict({**main.to_dict(), "decisions": []})
    full, plain = (pixels(draw_map(scene, [r], 1.5, None, MAP_MARGIN_M)) for r in (main, hidden))
    assert full.shape == plain.shape
    assert (full != plain).any()


def test_what_comes_from_data_stays_text(written, tmp_path):
    _, rollouts = written
    agents = rollouts["image-goal"]
    drives = [
        replace(r, agent=hostile.TEXT, episode_id=hostile.TEXT, decisions=[
            replace(d, text=hostile.TEXT, image=None) for d in r.decisions
        ])
        for r in agents["navdp"]
    ]  # fmt: skip
    summary = summarize(agents["navdp"], 1.5, 0)
    settings = {name: getattr(RULES, name) for name in RULES.__dataclass_fields__}
    results = {
        "tasks": {hostile.TEXT: {hostile.TEXT: summary}},
        "left_out": {hostile.TEXT: {f"{hostile.TEXT} 2": hostile.TEXT}},
        "model": hostile.TEXT,
        "models": {},
        "command": hostile.TEXT,
        "settings": {
            **settings,
            "num_scenes": 1,
            "scene": None,
            "density": hostile.TEXT,
            "seed": 0,
            "as_benchmarked": True,
        },
    }
    write_metrics(tmp_path, results)
    page = write_report(tmp_path, results, {hostile.TEXT: {hostile.TEXT: drives}}, SCENES, 1.5, LOG)
    hostile.assert_harmless(page.read_text(encoding="utf-8"), 6)
    assert "<script>" not in (tmp_path / "metrics.md").read_text()
