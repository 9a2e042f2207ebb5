"""The evaluation command, with a tiny model."""

import json
import logging
from dataclasses import replace

import pytest
import torch
import trimesh

from internnav_hf import CameraSpec
from scripts import evaluate
from tests.data.vln_ce import straight_episode, write_scene
from tests.sim.boxes import hall
from tests.tiny import tiny_processor, tiny_system2
from tests.tiny_dual import tiny_dual_system
from tests.tiny_navdp import tiny_navdp_model

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


def arguments(out, **changes) -> evaluate.Arguments:
    values = {
        "scenes": 1,
        "episodes": 2,
        "max_steps": 3,
        "num_rooms": [1, 1],
        "num_objects": [2, 2],
    }
    return evaluate.Arguments(out=str(out), **(values | changes))


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
    evaluate.main(args)
    results = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(results["agents"]) == {"system2", "random", "oracle"}
    for summary in results["agents"].values():
        assert {"sr", "spl", "os", "ne", "ndtw", "collision_rate"} <= set(summary)
        assert summary["num_episodes"] == 2
    assert results["model"] == str(model)
    assert results["settings"]["camera"] == CAMERA.to_dict()
    assert results["open_loop"]["num_samples"] == 2
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    lines = (tmp_path / "out" / "rollouts.jsonl").read_text()
    evaluate.main(args)
    assert (tmp_path / "out" / "rollouts.jsonl").read_text() == lines


def test_a_dual_system_walks_beside_its_system2(dual_model, tmp_path):
    root = tmp_path / "data"
    write_scene(root / "r2r_val_unseen" / "a", [straight_episode(0)], size=(112, 84))
    data = {"data_root": str(root), "num_samples": 2, "cache_dir": str(tmp_path / "cache")}
    evaluate.main(arguments(tmp_path / "out", model=str(dual_model), num_trajectories=3, **data))
    results = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(results["agents"]) == ["dual", "system2", "random", "oracle"]
    assert results["open_loop"]["num_samples"] == 2
    assert results["dual_open_loop"]["ade_m"] > 0
    table = (tmp_path / "out" / "metrics.md").read_text()
    assert "| dual: mean path |" in table
    assert "straight to System2" in (tmp_path / "out" / "report.html").read_text()
    lines = (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()
    assert len(lines) == 8


def test_navdp_walks_to_the_goals_of_any_system2(model, dual_model, navdp_model, tmp_path, caplog):
    for path, walkers in ((model, []), (dual_model, ["dual"])):
        out = tmp_path / path.name
        given = {"model": str(path), "system1": str(navdp_model), "num_trajectories": 2}
        with caplog.at_level(logging.WARNING):
            evaluate.main(arguments(out, **given))
        assert "another camera" not in caplog.text
        agents = json.loads((out / "metrics.json").read_text())["agents"]
        assert list(agents) == [*walkers, "system2", "system2_navdp", "random", "oracle"]
        assert agents["system2_navdp"]["num_episodes"] == 2
        assert "| system2_navdp |" in (out / "metrics.md").read_text()


def test_what_navdp_is_told_is_remembered(model, navdp_model, tmp_path, caplog):
    args = arguments(tmp_path, model=str(model), system1=str(navdp_model))
    policy, system1 = evaluate.load_policy(args), evaluate.load_system1(args)
    assert next(system1.model.parameters()).device.type == accelerator_type()
    agents = evaluate.make_agents(args, policy, system1)
    assert [agent.name for agent in agents] == ["system2", "system2_navdp", "random", "oracle"]
    keys = [evaluate.rollout_settings(args, agent, CAMERA) for agent in agents]
    other = replace(args, system1_goal="point")
    changed = [evaluate.rollout_settings(other, agent, CAMERA) for agent in agents]
    assert [a != b for a, b in zip(keys, changed, strict=True)] == [False, True, False, False]
    with caplog.at_level(logging.WARNING):
        evaluate.compare_camera(system1, replace(CAMERA, look_down_pitch_deg=15.0))
    assert "--system1 sees another camera than its own: trained at 30°" in caplog.text


def test_a_system1_that_is_none_is_named(model, tmp_path):
    for path, message in (
        (tmp_path / "nowhere", "--system1 .*nowhere: there is no such folder"),
        (model, "model0: found a model of type 'internnav_system2', expected 'internnav_navdp'"),
    ):
        args = arguments(tmp_path / "out", model=str(model), system1=str(path))
        with pytest.raises(ValueError, match=message):
            evaluate.main(args)
    args = arguments(tmp_path / "out", model=str(model), agents=["system2_navdp"])
    with pytest.raises(ValueError, match="--agents system2_navdp needs --system1"):
        evaluate.main(args)
    assert not (tmp_path / "out").exists()


def test_what_a_dual_system_walks_with_is_remembered(dual_model, tmp_path):
    given = {"model": str(dual_model), "num_trajectories": 3, "max_steps_per_plan": 5}
    args = arguments(tmp_path, num_inference_steps=2, guidance_scale=1.5, **given)
    policy = evaluate.load_policy(args)
    assert (policy.num_samples, policy.max_steps_per_plan) == (3, 5)
    assert policy.sampling == {"guidance_scale": 1.5, "num_inference_steps": 2}
    agents = evaluate.make_agents(args, policy)
    keys = [evaluate.rollout_settings(args, agent, CAMERA) for agent in agents]
    other = replace(args, guidance_scale=None)
    changed = [evaluate.rollout_settings(other, agent, CAMERA) for agent in agents]
    assert [a != b for a, b in zip(keys, changed, strict=True)] == [True, False, False, False]


def test_a_system2_alone_is_no_dual_system(model, tmp_path):
    with pytest.raises(ValueError, match=r"--agents dual: .* is a System2 alone, which leaves no"):
        evaluate.main(arguments(tmp_path / "out", model=str(model), agents=["dual"]))
    assert not (tmp_path / "out").exists()


def test_a_model_of_depth_is_not_evaluated_without(tmp_path):
    tiny_dual_system("navdp_async").save_pretrained(tmp_path / "model")
    tiny_processor(camera=CAMERA.to_dict()).save_pretrained(tmp_path / "model")
    args = arguments(tmp_path / "out", model=str(tmp_path / "model"), use_depth=False)
    with pytest.raises(ValueError, match="use_depth: found False"):
        evaluate.main(args)


def test_baselines_walk_without_a_model(tmp_path):
    evaluate.main(arguments(tmp_path, max_steps=200))
    agents = json.loads((tmp_path / "metrics.json").read_text())["agents"]
    assert set(agents) == {"random", "oracle"}
    assert agents["oracle"]["sr"] == 1


def test_another_camera_is_a_plain_warning(model, tmp_path, caplog):
    policy = evaluate.load_policy(arguments(tmp_path, model=str(model)))
    assert next(policy.model.parameters()).device.type == accelerator_type()
    args = arguments(tmp_path, model=str(model), camera_height_m=0.45)
    with caplog.at_level(logging.WARNING):
        camera = evaluate.choose_camera(args, policy)
    assert camera == replace(CAMERA, height_m=0.45)
    assert "125 cm" in caplog.text
    assert "45 cm" in caplog.text


def test_a_folder_that_is_no_model_is_named(tmp_path, model):
    with pytest.raises(ValueError, match="nowhere: there is no such folder"):
        evaluate.load_policy(arguments(tmp_path, model=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"no model in it \(config.json\)"):
        evaluate.load_policy(arguments(tmp_path, model=str(tmp_path)))
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    with pytest.raises(ValueError, match="no processor in it"):
        evaluate.load_policy(arguments(tmp_path, model=str(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agents": ["system3"]}, "system3; known are dual, system2"),
        ({"answer_with": "voice"}, "found voice, expected head or text"),
        ({"episodes": 0}, "--episodes: found 0"),
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
        evaluate.main(args)
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
        evaluate.main(args)
        counts.append(len(rollouts.read_text().splitlines()))
    assert counts == [2, 2, 4]


def test_system2_alone_needs_a_model(tmp_path):
    with pytest.raises(ValueError, match="needs --model"):
        evaluate.main(arguments(tmp_path, agents=["system2"]))
