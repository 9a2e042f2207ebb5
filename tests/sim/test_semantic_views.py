"""The simulator's semantic images, in views, in data sets, and in the benchmark."""

import json
from dataclasses import replace

import numpy as np
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.data import PlannerDataset
from internnav_hf.evaluation.visual_navigation.benchmark import (
    VisualNavigationArguments,
    evaluate_visual_navigation,
)
from internnav_hf.evaluation.visual_navigation.drive import DrivingRules
from internnav_hf.evaluation.visual_navigation.episodes import EpisodeRules
from internnav_hf.models.planners.semantics import class_named
from internnav_hf.sim.navigation import NavigableSpace
from internnav_hf.sim.render import Renderer
from internnav_hf.sim.scenes import generate_scene, scene_config
from internnav_hf.sim.smooth_paths import SmoothPathSampler
from internnav_hf.sim.wheeled_robot import WheeledRobot
from internnav_hf.sim.writers.vln_n1 import DEPTH_SCALE, point_cloud, vln_n1_folder
from tests.tiny.planners import tiny_viplanner

CAMERA = CameraSpec(width=64, height=48, height_m=0.5, pitch_deg=15, depth_scale=DEPTH_SCALE)


def named(colours: np.ndarray, name: str) -> np.ndarray:
    return (colours == np.uint8(class_named(name).colour)).all(axis=-1)


def test_floor_walls_and_furniture_are_told_apart():
    scene = generate_scene(3, scene_config("medium"))
    robot = WheeledRobot(scene, CAMERA)
    views = []
    for yaw in np.linspace(0, 6, 7):
        robot.place((*robot.pose[:2], yaw))
        views.append((robot.observe(semantics=True), robot.render_at(robot.pose)))
    for seen, view in views:
        colours = seen["semantics"]
        assert (named(colours, "furniture") == (view.instances > 0)).all()
        known = sum(named(colours, n) for n in ("floor", "wall", "furniture", "sky"))
        assert (known == 1).all()
        assert not named(colours, "floor")[0].any()
    shares = [named(seen["semantics"], "floor")[-1].mean() for seen, _ in views]
    assert max(shares) > 0.5
    assert "semantics" not in robot.observe()


def test_a_viplanner_learns_from_written_semantics(tmp_path):
    scene = generate_scene(3, scene_config("easy"))
    sampler = SmoothPathSampler(NavigableSpace(scene), 0.2, 1.0, 4.0)
    rng, parts = np.random.default_rng(0), (Renderer(scene), point_cloud(scene), CAMERA, {})
    folder = tmp_path / "data" / "simulated_train" / "scene_00000"
    folder.parent.mkdir(parents=True)
    with vln_n1_folder(folder, *parts, semantics=True) as writer:
        for _ in range(2):
            writer.add(sampler.draw(rng))
    files = sorted(folder.glob("videos/*/observation.images.semantics/*.png"))
    assert len(files) == len(sorted(folder.glob("videos/*/observation.images.depth/*.png")))
    assert named(np.asarray(Image.open(files[0])), "floor").any()
    told = {"second_image": "semantics", "cache_dir": tmp_path / "cache"}
    dataset = PlannerDataset(tmp_path / "data", 96, 128, **told)
    sample, grid = dataset[0], dataset.places[0].grid
    assert sample["semantics"].shape == (3, 96, 128)
    on_path = grid.at(dataset.places[0].poses[:, :2, 3])
    assert np.median(on_path) < 1.0 < grid.costs.max()


def test_the_benchmark_shows_classes_to_those_that_need_them(tmp_path):
    camera = replace(CAMERA, pitch_deg=0.0).to_dict()
    tiny_viplanner(camera=camera).save_pretrained(tmp_path / "model")
    args = VisualNavigationArguments(
        task=["point-goal"],
        model=str(tmp_path / "model"),
        out=str(tmp_path),
        scenes=1,
        episodes=1,
        density="easy",
        baselines=["none"],
    )
    near = EpisodeRules(min_distance=2.0, max_distance=5.0)
    evaluate_visual_navigation(args, near, DrivingRules(time_limit=3.0))
    tasks = json.loads((tmp_path / "metrics.json").read_text())["tasks"]
    assert tasks["point-goal"]["viplanner"]["num_episodes"] == 1
