"""Followers of instructions walk and are measured, with tiny models."""

import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import trimesh

from internnav_hf import CameraSpec
from internnav_hf.catalog import Family
from internnav_hf.evaluation import models as policies
from internnav_hf.evaluation.agents import ForwardWalker
from internnav_hf.evaluation.vln.arguments import VLNArguments
from internnav_hf.evaluation.vln.benchmark import evaluate_vln, make_scenes
from internnav_hf.evaluation.vln.models import (
    Models,
    compare_cameras,
    load_models,
    main_camera,
    make_rows,
    rollout_settings,
)
from internnav_hf.policies import DualSystemPolicy
from internnav_hf.policies.loading import split_settings
from tests.data.vln_ce import straight_episode, write_scene
from tests.sim.boxes import hall
from tests.tiny.dual_system import tiny_dual_system
from tests.tiny.gnm import tiny_image_goal
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.rdp import tiny_rdp
from tests.tiny.system2 import tiny_processor, tiny_system2
from tests.tiny.vln import tiny_cma, tiny_seq2seq
from tests.tiny.vln_processor import tiny_vln_processor

CAMERA = CameraSpec(width=112, height=84)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_system2().save_pretrained(folder)
    tiny_processor(camera=CAMERA.to_dict()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dual_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dual")
    tiny_dual_system().save_pretrained(folder)
    tiny_processor(camera=CAMERA.to_dict()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def navdp_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("navdp")
    tiny_navdp_model(camera=replace(CAMERA, pitch_deg=30.0).to_dict()).save_pretrained(folder)
    return folder


def arguments(out, **changes) -> VLNArguments:
    values = {
        "scenes": 1,
        "episodes": 2,
        "max_steps": 3,
        "num_rooms": [1, 1],
        "num_objects": [2, 2],
    }
    return VLNArguments(out=str(out), **(values | changes))


def keys_of(args, models, scene_set) -> dict[str, dict]:
    """What the rollouts of each agent depend on."""
    rows = [(row, row.make()) for row in make_rows(args, models, scene_set)]
    return {agent.name: rollout_settings(args, row, agent, CAMERA) for row, agent in rows}


def changed_keys(args, other, models, scene_set) -> list[str]:
    """Agents whose rollouts depend on what differs between `args` and `other`."""
    keys, others = keys_of(args, models, scene_set), keys_of(other, models, scene_set)
    assert list(keys) == list(others)
    return [name for name in keys if keys[name] != others[name]]


def accelerator_type() -> str:
    accelerator = torch.accelerator.current_accelerator()
    return accelerator.type if accelerator and torch.accelerator.is_available() else "cpu"


def test_the_command_writes_metrics_and_report(model, tmp_path):
    root = tmp_path / "data"
    write_scene(root / "r2r_val_unseen" / "a", [straight_episode(0)], size=(112, 84))
    args = arguments(
        tmp_path / "out",
        model=str(model),
        data_root=str(root),
        num_samples=2,
        cache_dir=str(tmp_path / "cache"),
    )
    evaluate_vln(args)
    results = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(results["agents"]) == ["random", "forward", "system2", "oracle"]
    for summary in results["agents"].values():
        assert {"sr", "spl", "os", "ne", "ndtw", "collision_rate"} <= set(summary)
        assert summary["num_episodes"] == 2
    assert results["model"] == str(model)
    assert results["settings"]["camera"] == CAMERA.to_dict()
    assert results["open_loop"]["num_samples"] == 2
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    lines = (tmp_path / "out" / "rollouts.jsonl").read_text()
    evaluate_vln(args)
    assert (tmp_path / "out" / "rollouts.jsonl").read_text() == lines


def test_a_dual_system_walks_beside_its_system2(dual_model, tmp_path):
    root = tmp_path / "data"
    write_scene(root / "r2r_val_unseen" / "a", [straight_episode(0)], size=(112, 84))
    data = {"data_root": str(root), "num_samples": 2, "cache_dir": str(tmp_path / "cache")}
    evaluate_vln(arguments(tmp_path / "out", model=str(dual_model), num_trajectories=3, **data))
    results = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(results["agents"]) == ["random", "forward", "system2", "dual", "oracle"]
    assert results["open_loop"]["num_samples"] == 2
    assert results["dual_open_loop"]["ade_m"] > 0
    table = (tmp_path / "out" / "metrics.md").read_text()
    assert "| dual: mean path |" in table
    assert "straight to System2" in (tmp_path / "out" / "report.html").read_text()
    lines = (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()
    assert len(lines) == 10


def test_navdp_walks_to_the_goals_of_any_system2(model, dual_model, navdp_model, tmp_path, caplog):
    for path, walkers in ((model, []), (dual_model, ["dual"])):
        out = tmp_path / path.name
        given = {"model": str(path), "system1": str(navdp_model), "num_trajectories": 2}
        with caplog.at_level(logging.WARNING):
            evaluate_vln(arguments(out, **given))
        assert "another camera" not in caplog.text
        agents = json.loads((out / "metrics.json").read_text())["agents"]
        assert list(agents) == ["random", "forward", "system2", "system2_navdp", *walkers, "oracle"]
        assert agents["system2_navdp"]["num_episodes"] == 2
        assert "| system2_navdp |" in (out / "metrics.md").read_text()


def test_what_navdp_is_told_is_remembered(model, navdp_model, tmp_path, caplog):
    args = arguments(tmp_path, model=str(model), system1=str(navdp_model))
    models, scene_set = load_models(args), make_scenes(args)
    assert models.system1 is not None
    assert next(models.system1.model.parameters()).device.type == accelerator_type()
    names = ["random", "forward", "system2", "system2_navdp", "oracle"]
    assert list(keys_of(args, models, scene_set)) == names
    other = replace(args, system1_goal="point")
    assert changed_keys(args, other, models, scene_set) == ["system2_navdp"]
    with caplog.at_level(logging.WARNING):
        compare_cameras(models, replace(CAMERA, look_down_pitch_deg=15.0))
    assert "--system1 sees another camera than its own: trained at 30°" in caplog.text


def test_a_system1_that_is_none_is_named(model, tmp_path):
    for path, message in (
        (tmp_path / "nowhere", "--system1 .*nowhere: there is no such folder"),
        (model, "--system1 .*found a model of type 'internnav_system2', expected one that drives"),
    ):
        args = arguments(tmp_path / "out", model=str(model), system1=str(path))
        with pytest.raises(ValueError, match=message):
            evaluate_vln(args)
    args = arguments(tmp_path / "out", model=str(model), agents=["system2_navdp"])
    with pytest.raises(ValueError, match="--agents system2_navdp needs --system1, navdp"):
        evaluate_vln(args)
    assert not (tmp_path / "out").exists()


def test_another_system1_has_a_row_of_its_own(model, tmp_path):
    tiny_image_goal("gnm", camera=CAMERA.to_dict()).save_pretrained(tmp_path / "gnm")
    given = {"model": str(model), "system1": str(tmp_path / "gnm"), "agents": ["system2_gnm"]}
    evaluate_vln(arguments(tmp_path / "out", **given))
    agents = json.loads((tmp_path / "out" / "metrics.json").read_text())["agents"]
    assert list(agents) == ["system2_gnm"]
    args = arguments(tmp_path / "out", **(given | {"system1_goal": "point"}))
    with pytest.raises(
        ValueError, match="system1_goal: found 'point', but this gnm was trained for"
    ):
        evaluate_vln(args)


def test_what_a_dual_system_walks_with_is_remembered(dual_model, tmp_path):
    given = {"model": str(dual_model), "num_trajectories": 3, "max_steps_per_plan": 5}
    args = arguments(tmp_path, num_inference_steps=2, guidance_scale=1.5, **given)
    models, scene_set = load_models(args), make_scenes(args)
    policy = models.policy
    assert isinstance(policy, DualSystemPolicy)
    assert (policy.num_samples, policy.max_steps_per_plan) == (3, 5)
    assert policy.sampling == {"guidance_scale": 1.5, "num_inference_steps": 2}
    assert changed_keys(args, replace(args, guidance_scale=None), models, scene_set) == ["dual"]
    other = replace(args, num_trajectories=4)
    assert changed_keys(args, other, models, scene_set) == ["dual"]
    other = replace(args, max_steps_per_goal=4)
    assert changed_keys(args, other, models, scene_set) == ["system2"]
    other = replace(args, seed=1)
    assert changed_keys(args, other, models, scene_set) == list(keys_of(args, models, scene_set))


def test_a_system2_alone_is_no_dual_system(model, tmp_path):
    with pytest.raises(ValueError, match=r"--agents dual: .* is a System2 alone, which leaves no"):
        evaluate_vln(arguments(tmp_path / "out", model=str(model), agents=["dual"]))
    assert not (tmp_path / "out").exists()


def test_a_model_of_depth_is_not_evaluated_without(tmp_path):
    tiny_dual_system("navdp_async").save_pretrained(tmp_path / "model")
    tiny_processor(camera=CAMERA.to_dict()).save_pretrained(tmp_path / "model")
    args = arguments(tmp_path / "out", model=str(tmp_path / "model"), use_depth=False)
    with pytest.raises(ValueError, match="use_depth: found False"):
        evaluate_vln(args)


def test_baselines_walk_without_a_model(tmp_path):
    evaluate_vln(arguments(tmp_path, max_steps=200))
    agents = json.loads((tmp_path / "metrics.json").read_text())["agents"]
    assert list(agents) == ["random", "forward", "oracle"]
    assert agents["oracle"]["sr"] == 1


def test_another_camera_is_a_plain_warning(model, tmp_path, caplog):
    models = load_models(arguments(tmp_path, model=str(model)))
    assert models.policy is not None
    assert next(models.policy.model.parameters()).device.type == accelerator_type()
    args = arguments(tmp_path, model=str(model), camera_height_m=0.45)
    with caplog.at_level(logging.WARNING):
        camera = main_camera(args, models)
    assert camera == replace(CAMERA, height_m=0.45)
    assert "125 cm" in caplog.text
    assert "45 cm" in caplog.text


def test_a_folder_that_is_no_model_is_named(tmp_path, model):
    with pytest.raises(ValueError, match="nowhere: there is no such folder"):
        load_models(arguments(tmp_path, model=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"no model in it \(config.json\)"):
        load_models(arguments(tmp_path, model=str(tmp_path)))
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    with pytest.raises(ValueError, match="no processor in it"):
        load_models(arguments(tmp_path, model=str(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agents": ["system3"]}, "system3; known are random, forward, .*seq2seq.* oracle"),
        ({"answer_with": "voice"}, "found voice, expected head or text"),
        ({"episodes": 0}, "--episodes: found 0"),
        ({"forward_steps": 0}, "--forward_steps: found 0"),
        ({"num_rooms": [1]}, "--num_rooms"),
        ({"data_root": "data"}, "--data_root: .* --model"),
        ({"system1": "navdp"}, "--system1: .* --model"),
        ({"scene": "home.glb"}, "--scene home.glb: there is no such file"),
    ],
)
def test_bad_arguments_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **changes)


def test_missing_held_out_data_fails_before_anybody_walks(model, tmp_path):
    args = arguments(tmp_path / "out", model=str(model), data_root=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nowhere"):
        evaluate_vln(args)
    assert not (tmp_path / "out").exists()


def test_a_mesh_file_with_other_content_is_walked_again(tmp_path):
    mesh = tmp_path / "home.ply"
    mesh.touch()
    args = arguments(tmp_path / "out", scene=str(mesh), agents=["oracle"])
    rollouts = tmp_path / "out" / "rollouts.jsonl"
    counts = []
    for size in (6.0, 6.0, 5.0):
        scene = hall(size=size)
        trimesh.Trimesh(scene.vertices, scene.faces, process=False).export(mesh)
        evaluate_vln(args)
        counts.append(len(rollouts.read_text().splitlines()))
    assert counts == [2, 2, 4]


def test_system2_alone_needs_a_model(tmp_path):
    with pytest.raises(ValueError, match="needs --model"):
        evaluate_vln(arguments(tmp_path, agents=["system2"]))


# ------------------------------------------------------------------------- Seq2Seq, CMA and RDP


@pytest.fixture(scope="module")
def followers(tmp_path_factory):
    """Folders of a Seq2Seq, a CMA and an RDP."""
    made = {"seq2seq": tiny_seq2seq(), "cma": tiny_cma(), "rdp": tiny_rdp(depth_size=32)}
    folders = {}
    for kind, follower in made.items():
        folders[kind] = str(tmp_path_factory.mktemp(kind))
        follower.save_pretrained(folders[kind])
        tiny_vln_processor(max_length=16, camera=CAMERA.to_dict()).save_pretrained(folders[kind])
    return folders


def test_all_followers_of_instructions_are_in_one_table(model, followers, tmp_path, caplog):
    """Same rooms, same camera; a second run finds all, and the report shows --model."""
    given = {"model": str(model), "vln_models": list(followers.values())}
    args = arguments(tmp_path, **given)
    with caplog.at_level(logging.WARNING):
        page = evaluate_vln(args)
    assert "another camera" not in caplog.text
    names = ["random", "forward", "seq2seq", "cma", "rdp", "system2", "oracle"]
    agents = json.loads((tmp_path / "metrics.json").read_text())["agents"]
    assert list(agents) == names
    rows = (tmp_path / "metrics.md").read_text().splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in names]
    assert "decisions" not in agents["rdp"]
    assert "system2 · " in page.read_text(encoding="utf-8")
    lines = (tmp_path / "rollouts.jsonl").read_text()
    evaluate_vln(args)
    assert (tmp_path / "rollouts.jsonl").read_text() == lines


def test_a_follower_can_be_the_model(followers, tmp_path):
    """Two of a kind have two rows; what either depends on is its own folder."""
    args = arguments(tmp_path, model=followers["cma"], vln_models=[followers["cma"]])
    page = evaluate_vln(replace(args, agents=["cma"]))
    text = page.read_text(encoding="utf-8")
    assert "cma · " in text
    assert "of the path" in text
    agents = json.loads((tmp_path / "metrics.json").read_text())["agents"]
    assert list(agents) == ["cma", "cma_2"]
    assert agents["cma"] == agents["cma_2"]
    models = load_models(args)
    settings = keys_of(replace(args, agents=["cma"]), models, make_scenes(args))["cma_2"]
    assert settings["model"] == followers["cma"]
    assert "config.json" in [name for name, *_ in settings["files"]]


def test_a_follower_trained_with_another_camera_is_a_warning(followers, tmp_path, caplog):
    args = arguments(tmp_path, vln_models=[followers["cma"], followers["seq2seq"]])
    models = load_models(args)
    with caplog.at_level(logging.WARNING):
        camera = main_camera(args, models)
    assert camera == CAMERA
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        compare_cameras(models, replace(CAMERA, pitch_deg=30.0, look_down_pitch_deg=45))
    assert [followers["seq2seq"] in record.message for record in caplog.records] == [True]
    assert "trained at 0°/30°; this camera is 30°/30°" in caplog.text


def test_what_is_no_follower_is_named(model, followers, tmp_path):
    for changes, message in (
        ({"vln_models": [str(model)]}, "--vln_models .*model0: found no Seq2Seq, CMA or RDP"),
        ({"vln_models": [str(tmp_path)]}, r"--vln_models .*: no model in it \(config.json\)"),
        ({"vln_models": ["nowhere/at/all"]}, "nowhere/at/all: there is no such folder"),
        ({"agents": ["rdp"]}, "--agents rdp needs one among --vln_models"),
        ({"vln_models": [followers["rdp"]], "use_depth": False}, "--use_depth: found False"),
        ({"model": followers["rdp"], "data_root": "x"}, "--data_root: .* is no System2"),
        ({"model": followers["rdp"], "system1": "x"}, "--system1: .* is no System2"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_vln(arguments(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_the_forward_walker_goes_as_far_as_the_mean_way(tmp_path):
    args = arguments(tmp_path, agents=["forward"])
    scene_set = make_scenes(args)
    walker = make_rows(args, Models(), scene_set)[0].make()
    assert isinstance(walker, ForwardWalker)
    mean = sum(episode.geodesic_distance for _, episode in scene_set.tasks) / len(scene_set.tasks)
    assert abs(walker.num_steps * 0.25 - mean) <= 0.125
    keys = keys_of(replace(args, forward_steps=37), Models(), scene_set)
    assert keys["forward"]["forward_steps"] == 37


class Circler:
    """An instruction policy that no file of the benchmark names: two steps, then a turn."""

    cameras = (CAMERA,)
    camera = CAMERA
    model = SimpleNamespace(config=SimpleNamespace(model_type="internnav_slow_circler"))

    def __init__(self, seed: int = 0, answer_with: str | None = None):
        self.seed, self.answer_with, self.num_calls = seed, answer_with, 0

    def start(self, instruction, name=""):
        return instruction, name

    def steps(self, episodes, observations):
        self.num_calls += 1
        assert all({"rgb", "depth", "pose"} <= observation.keys() for observation in observations)
        return [SimpleNamespace(actions=(1, 1, 2)) for _ in episodes]


def test_any_policy_that_follows_instructions_has_a_row(followers, tmp_path, monkeypatch):
    """Two of a kind whose name has an underscore have two rows; it is asked when it has no action
    left; settings that it does not have are not what its rollouts depend on.
    """
    made = []

    def load_policy(family, path, settings):
        made.append(Circler(**split_settings(Circler, settings)[0]))
        return made[-1]

    family = Family("SlowCircler", "slow_circler", benchmark="vln")
    monkeypatch.setattr(policies, "family_at", lambda *_: family)
    monkeypatch.setattr(policies, "load_policy", load_policy)
    paths = [followers["cma"], followers["rdp"]]
    args = arguments(tmp_path, vln_models=paths, seed=3, answer_with="text", max_steps=5)
    page = evaluate_vln(args)
    agents = json.loads((tmp_path / "metrics.json").read_text())["agents"]
    assert list(agents) == ["random", "forward", "slow_circler", "slow_circler_2", "oracle"]
    assert [(policy.seed, policy.answer_with) for policy in made] == [(3, "text")] * 2
    assert made[0].num_calls == 2
    assert "↑ ↑ ←" in page.read_text(encoding="utf-8")
    models, scene_set = load_models(args), make_scenes(args)
    followed = ["slow_circler", "slow_circler_2"]
    assert changed_keys(args, replace(args, answer_with=None), models, scene_set) == followed
    assert not changed_keys(args, replace(args, guidance_scale=2.0), models, scene_set)
