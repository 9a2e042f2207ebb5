"""The report: complete, self-contained, readable."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.evaluation.agents import OracleAgent, RandomWalker
from internnav_hf.evaluation.drawing import (
    BUNDLE_COLOR,
    draw_decision,
    grid_of,
    overlay_heatmap,
    plot_training_curve,
)
from internnav_hf.evaluation.metrics import episode_metrics, summarize
from internnav_hf.evaluation.open_loop.system2 import summarize_answers
from internnav_hf.evaluation.records import DecisionRecord
from internnav_hf.evaluation.report import (
    choose_episodes,
    film_view,
    read_log_history,
)
from internnav_hf.evaluation.rollout import RolloutStore, evaluate_agent
from internnav_hf.evaluation.vln.report import trajectory_rows, write_metrics, write_report
from internnav_hf.evaluation.vln.system2_agent import System2Agent
from internnav_hf.geometry import camera_pose, project, robot_to_world
from internnav_hf.models.system2.dialogue import AnswerKind
from internnav_hf.policies import Decision
from tests.evaluation import hostile
from tests.evaluation.fakes import LOOK_DOWN, ScriptedPolicy

LOG = [{"step": 10, "loss": 2.0, "pixel_goal_loss": 1.0}, {"step": 20, "loss": 1.0}]


@pytest.fixture(scope="module")
def written(scene_set, tmp_path_factory):
    """Output folder, results and rollouts of three agents."""
    out = tmp_path_factory.mktemp("report")
    goal = Decision(AnswerKind.PIXEL_GOAL, "↓", (30.0, 40.0), 0.5, np.eye(3, 4))
    system2 = System2Agent(ScriptedPolicy(lambda *_: LOOK_DOWN, lambda view: goal))
    rollouts = {}
    for agent in (system2, RandomWalker(0), OracleAgent()):
        rollouts[agent.name] = walk(agent, scene_set, out)
    results = {
        "agents": {
            name: summarize([episode_metrics(rollout, 1.0) for rollout in found])
            for name, found in rollouts.items()
        },
        "model": "outputs/<model>",
        "command": "python scripts/evaluate.py",
        "settings": {"num_scenes": 1, "scene": None},
        "open_loop": {**summarize_answers([ROW], np.array([0, 0])), "image_size": [64, 48]},
    }
    write_metrics(out, results)
    write_report(out, results, rollouts, scene_set.scene, 1.0, LOG)
    return out, results, rollouts


ROW = {
    "class": 0,
    "action": "pixel goal",
    "answer": 1,
    "answer_action": "turn left",
    "goal": (3, 4),
    "answer_goal": (3, 4),
    "is_valid": True,
}


def walk(agent, scene_set, out):
    from tests.tiny.scene_set import CAMERA

    def make_env(name):
        return scene_set.make_env(name, CAMERA, success_distance=1.0, max_steps=30)

    return evaluate_agent(agent, scene_set.tasks, make_env, RolloutStore(out, 1.0), {}, 2)


def test_metrics_are_written_for_every_agent(written):
    out, _, _ = written
    agents = json.loads((out / "metrics.json").read_text())["agents"]
    assert set(agents) == {"system2", "random", "oracle"}
    for summary in agents.values():
        assert {"sr", "spl", "os", "ne", "ndtw", "collision_rate"} <= set(summary)
    table = (out / "metrics.md").read_text().splitlines()
    assert len(table) == 5
    assert {line.count("|") for line in table} == {11}


def test_the_report_needs_nothing_but_itself(written):
    page = (written[0] / "report.html").read_text()
    assert "://" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "outputs/&lt;model&gt;" in page


def test_the_report_has_maps_views_and_a_curve(written):
    out, _, rollouts = written
    page = (out / "report.html").read_text()
    drawn = choose_episodes(rollouts["system2"], 1.0)
    pictures = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', page)
    assert [kind for kind, _ in pictures].count("png") == len(drawn) + 1
    assert [kind for kind, _ in pictures].count("jpeg") >= len(drawn)
    for _, content in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(content)))
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
    for rollout in drawn:
        assert rollout.instruction in page


def test_the_heatmap_shows_where_it_is_high_and_leaves_the_rest(tmp_path):
    image = Image.new("RGB", (64, 48), (100, 100, 100))
    heatmap = np.zeros((12, 16))
    heatmap[2, 3] = 0.7
    drawn = np.asarray(overlay_heatmap(image, heatmap, 0.5)).astype(int)
    assert np.abs(drawn[10, 14] - 100).max() > 30
    assert np.abs(drawn[40, 50] - 100).max() == 0


def test_a_goal_is_drawn_at_its_pixel():
    image = Image.new("RGB", (64, 48))
    decision = DecisionRecord(0, "PIXEL_GOAL", "↓", (0.0, 0.0), goal_pixel=(40.0, 20.0))
    drawn = np.asarray(draw_decision(image, decision)).sum(axis=2)
    v, u = np.nonzero(drawn)
    assert u.mean() == pytest.approx(40, abs=1)
    assert v.mean() == pytest.approx(20, abs=1)
    assert np.asarray(image).sum() == 0


def test_trajectories_lie_on_the_floor_of_the_view():
    camera = CameraSpec(width=320, height=240)
    ahead = np.stack([np.linspace(0, 2, 20), np.zeros(20)], axis=1)
    left = ahead + np.linspace(0, 1, 20)[:, None] * [0, 1]
    turned = [robot_to_world(path, (3.0, 4.0, 0.5)).tolist() for path in (ahead, left)]
    decision = DecisionRecord(0, "PIXEL_GOAL", "↓", (3.0, 4.0), yaw=0.5, trajectories=turned)
    drawn = np.asarray(draw_decision(Image.new("RGB", (320, 240)), decision, camera)).astype(int)
    end = camera_pose(0, 0, 0, camera.height_m, np.radians(camera.look_down_pitch_deg))
    floor = np.array([[2.0, 0, 0], [2.0, 1.0, 0], [2.0, 0.5, 0], [2.0, -1.0, 0]])
    found = []
    for u, v in project(floor, end, camera.intrinsics)[0].astype(int):
        found.append(drawn[v - 3 : v + 4, u - 3 : u + 4].max(axis=(0, 1)).tolist())
    bundle, mean = [int(c * 150 / 255) for c in BUNDLE_COLOR], [255, 255, 255]
    np.testing.assert_allclose(found, [bundle, bundle, mean, [0, 0, 0]], atol=2)
    untouched = draw_decision(Image.new("RGB", (320, 240)), decision)  # no camera, no floor
    assert np.asarray(untouched).max() == 0


def test_tables_of_trajectories_leave_out_what_was_not_measured():
    rows = dict(trajectory_rows({"ade_m": 0.5, "fde_m": 1.25, "straight_ade_m": 0.75}))
    assert rows["dual: mean path"] == ["0.50 m", "1.25 m", "-", "-"]
    assert rows["straight to System2's pixel"] == ["0.75 m", "-", "-", "-"]
    assert rows["the expert's path"] == ["-"] * 4


def test_maps_side_by_side_fill_their_rows():
    assert [grid_of(count) for count in (1, 5, 6, 7, 10)] == [
        (1, 1),
        (1, 5),
        (2, 3),
        (2, 4),
        (2, 5),
    ]


def test_a_training_curve_is_a_picture():
    picture = Image.open(io.BytesIO(plot_training_curve(LOG)))
    assert picture.width > 300


def test_what_comes_from_data_stays_text(written, scene_set, tmp_path):
    out, results, rollouts = written
    scene = rollouts["oracle"][0].scene
    decisions = [replace(d, text=hostile.TEXT, image=None) for d in rollouts["oracle"][0].decisions]
    words = {"instruction": hostile.TEXT, "episode_id": hostile.TEXT, "agent": hostile.TEXT}
    walked = [replace(r, decisions=decisions, **words) for r in rollouts["oracle"]]
    viewed = [replace(r, **words) for r in rollouts["system2"]]
    for rollout in viewed:
        rollout.decisions = [replace(d, text=hostile.TEXT) for d in rollout.decisions]
    names = dict.fromkeys(("model", "command"), hostile.TEXT)
    summary = results["agents"]["oracle"]
    told = {**results, **names, "agents": {hostile.TEXT: summary, f"{hostile.TEXT} 2": summary}}
    shown = {hostile.TEXT: viewed, f"{hostile.TEXT} 2": walked}
    log = [{"step": 1, f"{hostile.TEXT}_loss": 1.0}, {"step": 2, f"{hostile.TEXT}_loss": 0.5}]
    write_metrics(tmp_path, told)
    for decision in (d for r in viewed for d in r.decisions if d.image):
        target = tmp_path / decision.image
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((out / decision.image).read_bytes())
    page = write_report(tmp_path, told, shown, lambda _: scene_set.scene(scene), 1.0, log)
    hostile.assert_harmless(page.read_text(encoding="utf-8"), 8)
    assert json.loads((tmp_path / "metrics.json").read_text())["model"] == hostile.TEXT
    table = (tmp_path / "metrics.md").read_text().splitlines()
    assert len(table) == 4
    assert "<script>" not in table[2]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"log_history": 3}',
        '{"log_history": [3]}',
        '{"log_history": [{"step": 1, "loss": "<b>"}]}',
        '{"log_history": [{"step": 1, "loss": 1' + "0" * 400 + "}]}",
        '{"a": ' * 100_000,
        "\xff",
    ],
)
def test_a_file_that_is_no_trainer_state_is_named(tmp_path, content):
    path = tmp_path / "trainer_state.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"trainer_state\.json[^\n]*expected"):
        read_log_history(str(path))


def test_a_trainer_state_of_hostile_size_is_not_read(tmp_path):
    path = tmp_path / "trainer_state.json"
    with path.open("wb") as file:
        file.truncate(500_000_000)
    with pytest.raises(ValueError, match="found 500000000 bytes, expected the trainer_state"):
        read_log_history(str(path))


def test_a_training_may_have_logged_what_is_no_number(tmp_path):
    path = tmp_path / "trainer_state.json"
    entries = [{"step": 1, "loss": 2.0, "note": "begun"}, {"step": 2, "loss": float("nan")}]
    path.write_text(json.dumps({"log_history": entries}))
    assert plot_training_curve(read_log_history(str(path)))
    many = [{"step": 1, **{f"{index}_loss": 1.0 for index in range(5000)}}]
    assert plot_training_curve(many)


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000)])
def test_views_that_no_camera_took_are_refused(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "view.png")
    record = DecisionRecord(0, "STOP", "STOP", (0.0, 0.0), image="view.png")
    with pytest.raises(ValueError, match=r"view\.png: size: found .* pixels"):
        film_view(tmp_path, record, None)


def test_views_elsewhere_are_not_opened(tmp_path):
    (tmp_path / "out").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    for name in ("../secret.png", str(tmp_path / "secret.png")):
        record = DecisionRecord(0, "STOP", "STOP", (0.0, 0.0), image=name)
        with pytest.raises(ValueError, match=r"secret\.png: image: found a file elsewhere"):
            film_view(tmp_path / "out", record, None)
