"""The visual-navigation benchmark's command."""

import base64
import io
import json
import logging
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from PIL import Image

from internnav_hf.catalog import FAMILIES
from internnav_hf.evaluation.arguments import TASKS, kind_of, requested_tasks
from internnav_hf.evaluation.models import choose_camera
from internnav_hf.evaluation.visual_navigation import models
from internnav_hf.evaluation.visual_navigation.arguments import (
    BASELINES,
    VisualNavigationArguments,
)
from internnav_hf.evaluation.visual_navigation.benchmark import evaluate_visual_navigation
from internnav_hf.evaluation.visual_navigation.drive import DrivingRules
from internnav_hf.evaluation.visual_navigation.episodes import EpisodeRules
from internnav_hf.evaluation.visual_navigation.models import (
    PUBLISHED_CAMERA,
    load_models,
    main_camera,
    make_entrants,
)
from scripts import evaluate
from tests.evaluation.visual_navigation.scenes import BLOCK, CAMERA
from tests.tiny.cases import CASES
from tests.tiny.gnm import tiny_image_goal
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.system2 import tiny_system2

EPISODES = EpisodeRules(min_distance=2.0, max_distance=5.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("navdp")
    tiny_navdp_model(camera=CAMERA.to_dict()).save_pretrained(folder)
    return folder


@pytest.fixture
def mesh(tmp_path):
    path = tmp_path / "hall.ply"
    trimesh.Trimesh(BLOCK.vertices, BLOCK.faces, process=False).export(path)
    return path


def arguments(out, **changes) -> VisualNavigationArguments:
    small = {"scenes": 1, "episodes": 2, "density": "easy", "num_samples": 2, "num_parallel": 2}
    return VisualNavigationArguments(out=str(out), **(small | changes))


def drive(args: VisualNavigationArguments, time_limit=3.0):
    return evaluate_visual_navigation(args, EPISODES, DrivingRules(time_limit=time_limit))


def test_the_task_decides_which_options_there_are():
    assert requested_tasks(["--out", "x"]) == ["vln"]
    options = ["--task", "point-goal", "no-goal", "--out", "x"]
    assert requested_tasks(options) == ["point-goal", "no-goal"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": ["point-gaol"]}, "--task: found point-gaol, expected vln, or some of point-goal"),
        ({"task": ["vln", "no-goal"]}, "--task: vln is measured by itself"),
        ({"task": []}, "--task: found nothing"),
        ({"baselines": ["oracel"]}, "--baselines: found oracel"),
        ({"baselines": ["none"]}, "found none of them, expected an agent"),
        ({"density": "dense"}, "--density: found dense, expected easy, medium, hard"),
        ({"episodes": 0}, "--episodes: found 0"),
        ({"scene": "home.glb"}, "--scene home.glb: there is no such file"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        VisualNavigationArguments(**changes)


@pytest.fixture(scope="module")
def all_models(model, tmp_path_factory):
    """A folder of each family that drives to goals, by its kind."""
    kinds = [kind_of(one.model_type) for one in FAMILIES if one.benchmark == "visual_navigation"]
    folders = {}
    for kind in kinds:
        folders[kind] = str(model)
        if kind != "navdp":
            folders[kind] = str(tmp_path_factory.mktemp(kind))
            made = CASES[kind].make()
            made.config.camera = CAMERA.to_dict()
            made.save_pretrained(folders[kind])
    return folders


@pytest.fixture(scope="module")
def compared(all_models, tmp_path_factory):
    """The output of all families in all tasks, and its numbers."""
    out = tmp_path_factory.mktemp("compared")
    args = arguments(out, models=[*all_models.values()], scenes=2, episodes=1)
    assert drive(args, time_limit=1.8) == out / "report.html"
    return out, json.loads((out / "metrics.json").read_text())


def test_every_model_drives_the_tasks_that_it_can_beside_the_baselines(all_models, compared):
    results = compared[1]
    assert list(results["tasks"]) == list(TASKS)
    can = {"point-goal": {"iplanner", "viplanner", "navdp"}, "pixel-goal": {"navdp"}}
    can |= {"image-goal": {"navdp", "gnm", "vint", "nomad"}, "no-goal": {"navdp", "nomad"}}
    for task, agents in results["tasks"].items():
        assert can[task] <= set(agents)
        assert [*agents][-3:] == ["straight-line", "random", "oracle"]
        assert {*agents} | {*results["left_out"][task]} == {*all_models, *BASELINES}
        assert not {*agents} & {*results["left_out"][task]}
        assert {summary["num_episodes"] for summary in agents.values()} == {2}
    assert results["left_out"]["no-goal"]["gnm"] == "image-goal"
    assert results["models"] == all_models
    assert results["settings"]["camera"] == CAMERA.to_dict()
    assert results["settings"]["time_limit"] == 1.8


def test_numbers_have_intervals_and_what_is_left_out_is_said(all_models, compared):
    out, results = compared
    summary = results["tasks"]["image-goal"]["nomad"]
    for name in ("sr", "spl", "geodesic_spl", "contact_time_s", "latency_p50_ms", "latency_p95_ms"):
        low, high = summary["intervals"][name]
        assert low - 1e-9 <= summary[name] <= high + 1e-9, name
    assert 0 < summary["latency_p50_ms"] <= summary["latency_p95_ms"]
    assert summary["sr_interval"] == summary["intervals"]["sr"]
    lines = (out / "metrics.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 4 * (len(all_models) + 3)
    assert len({line.count("|") for line in table}) == 1
    assert any(
        line.startswith("| pixel-goal | gnm | left out: drives image-goal |") for line in table
    )
    assert "Wilson" in lines[-1]
    assert "seed 0" in lines[-1]


def test_the_drives_of_all_models_are_side_by_side(compared):
    out, results = compared
    page = (out / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r'<img class="map" src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 4 * 2  # an episode of each scene, in each task
    widths = [Image.open(io.BytesIO(base64.b64decode(one))).width for one in pictures]
    assert min(widths) > 800
    assert page.count("left out: drives") == sum(map(len, results["left_out"].values()))


def test_fewer_models_or_tasks_find_what_more_have_driven(all_models, compared, tmp_path):
    rollouts = shutil.copytree(compared[0], tmp_path / "out") / "rollouts.jsonl"
    lines = rollouts.read_text()
    args = arguments(rollouts.parent, models=[all_models["gnm"]], scenes=2, episodes=1)
    args.task, args.baselines = ["image-goal"], ["oracle"]
    drive(args, time_limit=1.8)
    assert rollouts.read_text() == lines
    agents = json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]["image-goal"]
    assert agents["gnm"] == compared[1]["tasks"]["image-goal"]["gnm"]


def test_two_of_a_kind_have_two_rows_and_a_task_that_nobody_can_do_is_named(all_models, tmp_path):
    twice = arguments(tmp_path, model=all_models["navdp"], models=[all_models["navdp"]])
    assert [one.name for one in load_models(twice)] == ["navdp", "navdp_2"]
    lonely = {"models": [all_models["gnm"]], "baselines": ["none"]}
    with pytest.raises(ValueError, match="--task pixel-goal: found no model that can do it"):
        drive(arguments(tmp_path / "out", task=["image-goal", "pixel-goal"], **lonely))
    assert not (tmp_path / "out").exists()


def test_models_as_benchmarked_drive_again_where_that_changes_something(all_models, tmp_path):
    args = arguments(tmp_path, models=[*all_models.values()])
    loaded = load_models(args), load_models(replace(args, as_benchmarked=True))
    before = make_entrants(args, loaded[0])
    after = make_entrants(replace(args, as_benchmarked=True), loaded[1])
    pairs = zip(before, after, strict=True)
    same = [one.agent.name for one, other in pairs if one.depends_on == other.depends_on]
    assert same == ["navdp", *BASELINES]
    explorers = [entrant.agent.name for entrant in after if entrant.can_drive("no-goal")]
    assert {"gnm", "vint", "nomad"} <= set(explorers)


def test_a_model_of_another_camera_is_a_warning(all_models, tmp_path, caplog):
    other = str(tmp_path / "gnm")
    made = tiny_image_goal("gnm", camera=replace(CAMERA, pitch_deg=5.0).to_dict())
    made.save_pretrained(other)
    args = arguments(tmp_path, models=[all_models["navdp"], other])
    with caplog.at_level(logging.WARNING):
        assert main_camera(args, load_models(args)) == CAMERA
    assert f"{other} sees another camera than its own" in caplog.text


def test_a_rerun_drives_only_what_changed(tmp_path):
    rollouts = tmp_path / "rollouts.jsonl"
    counts = []
    changes = [{}, {}, {"num_samples": 3}, {"seed": 1}, {"task": ["no-goal"]}]
    for change in changes:
        values = {"model": "straight-line", "baselines": ["none"], "task": ["point-goal"]}
        drive(arguments(tmp_path, **(values | change)))
        counts.append(len(rollouts.read_text().splitlines()))
    assert counts == [2, 2, 2, 4, 6]


def test_a_retrained_model_drives_again(model, tmp_path):
    own = tmp_path / "model"
    counts = []
    for _ in range(2):
        tiny_navdp_model(camera=CAMERA.to_dict()).save_pretrained(own)
        drive(arguments(tmp_path, model=str(own), task=["point-goal"], baselines=["none"]), 0.6)
        counts.append(len((tmp_path / "rollouts.jsonl").read_text().splitlines()))
    assert counts == [2, 4]


def test_rules_that_no_place_fits_fail_before_anybody_drives(tmp_path):
    args = arguments(tmp_path / "out", task=["no-goal", "point-goal"], baselines=["random"])
    with pytest.raises(ValueError, match="--task point-goal: no scene has a start and a goal"):
        evaluate_visual_navigation(
            args, EpisodeRules(min_distance=90, max_distance=99), DrivingRules()
        )
    assert not (tmp_path / "out").exists()


def test_one_baseline_alone_and_any_mesh(mesh, tmp_path):
    args = arguments(tmp_path, model="oracle", baselines=["none"], scene=str(mesh))
    args.task = ["point-goal"]
    drive(args, time_limit=60)
    agents = json.loads((tmp_path / "metrics.json").read_text())["tasks"]["point-goal"]
    assert list(agents) == ["oracle"]
    assert agents["oracle"]["sr"] == 1
    assert agents["oracle"]["spl"] > 0.8


def test_the_command_line_reaches_everything(tmp_path, capsys):
    options = "--task point-goal --model oracle --baselines straight-line --density hard"
    options += " --scenes 1 --episodes 1 --min-distance 2 --max-distance 4 --time-limit 30"
    evaluate.run([*options.split(), "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "| point-goal | oracle | 100.0% (20.7%–100.0%) |" in shown
    assert "| point-goal | straight-line |" in shown
    assert "report.html" in shown
    with pytest.raises(ValueError, match="unknown field 'max-stepz'"):
        evaluate.run(["--task", "point-goal", "--max-stepz", "3"])


def test_a_goal_that_the_model_was_not_trained_for_is_named(tmp_path):
    tiny_navdp_model(goal_kinds=("point", "none")).save_pretrained(tmp_path / "model")
    args = arguments(tmp_path / "out", model=str(tmp_path / "model"))
    with pytest.raises(ValueError, match="--task image-goal: .* can do point-goal, no-goal; other"):
        drive(args)
    assert not (tmp_path / "out").exists()


def test_a_baseline_may_be_one_of_the_models(tmp_path):
    args = arguments(tmp_path, models=["oracle"], baselines=["none"])
    assert [one.agent.name for one in make_entrants(args, [])] == ["oracle"]


def test_a_setting_that_no_model_has_is_named(tmp_path):
    args = arguments(tmp_path, seen_clearance=0.2)
    with pytest.raises(ValueError, match="--seen_clearance: found 0.2, expected none"):
        make_entrants(args, [])


def test_another_kind_of_model_is_named(tmp_path):
    tiny_system2().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="found a model of type 'internnav_system2'"):
        load_models(arguments(tmp_path, model=str(tmp_path)))
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="--model .*nowhere: there is no such folder"):
        load_models(arguments(tmp_path, model=nowhere))
    with pytest.raises(ValueError, match="--models .*nowhere: there is no such folder"):
        drive(arguments(tmp_path / "out", models=[nowhere]))
    assert not (tmp_path / "out").exists()


def test_the_camera_is_the_models_or_the_published_one(model, tmp_path, caplog):
    args = arguments(tmp_path, model=str(model))
    policy = load_models(args)[0].policy
    with caplog.at_level(logging.WARNING):
        assert choose_camera("model", policy, args.camera_changes(), PUBLISHED_CAMERA) == CAMERA
        assert not caplog.text
        changes = replace(args, camera_pitch_deg=5.0).camera_changes()
        changed = choose_camera("model", policy, changes, PUBLISHED_CAMERA)
    assert changed == replace(CAMERA, pitch_deg=5.0)
    assert "The camera differs from the model's" in caplog.text
    changes = arguments(tmp_path, camera_width=64).camera_changes()
    assert choose_camera(None, None, changes, PUBLISHED_CAMERA).width == 64
    assert np.isclose(PUBLISHED_CAMERA.intrinsics[0, 0], 476, atol=1)


class LeftOfTheGoal:
    """A goal policy that no file of the benchmark names: to points only, without samples."""

    goal_kinds = ("point",)
    needs_semantics = False
    cameras = (CAMERA,)
    camera = CAMERA
    model = SimpleNamespace(config=SimpleNamespace(model_type="internnav_left_turner"))

    def start(self, name=""):
        return name

    def steps(self, episodes, observations, goals):
        assert all(seen["depth"].shape == (48, 64) for seen in observations)
        paths = [np.array([(0.0, 0.0), (goal.xy[0], goal.xy[1] + 0.1)]) for goal in goals]
        return [
            SimpleNamespace(path=path, trajectories=None, values=None, motion=None)
            for path in paths
        ]


def test_any_goal_policy_is_driven(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load_policy", lambda *_: LeftOfTheGoal())
    (tmp_path / "weights").write_text("")
    given = {"model": str(tmp_path / "weights"), "baselines": ["straight-line"]}
    page = drive(arguments(tmp_path / "out", task=["point-goal"], **given))
    results = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(results["tasks"]["point-goal"]) == ["left_turner", "straight-line"]
    assert results["settings"]["camera"] == CAMERA.to_dict()
    assert "left_turner · " in page.read_text(encoding="utf-8")
    args = arguments(tmp_path / "out", task=["image-goal"], **given)
    with pytest.raises(ValueError, match="--task image-goal: .* can do point-goal; other goals"):
        drive(args)
