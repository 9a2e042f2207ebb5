import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

from internnav_hf.camera import CameraSpec
from internnav_hf.data import (
    DualSystemCollator,
    DualSystemDataset,
    NavDPCollator,
    NavDPDataset,
    System2Collator,
    System2Dataset,
    VLNCollator,
    VLNDataset,
)
from internnav_hf.data.formats import registry
from internnav_hf.geometry import FORWARD_STEP_M, wrap_angle
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from tests.data import vln_ce, vln_pe
from tests.tiny.dual_system import tiny_dual_system
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.rdp import tiny_rdp
from tests.tiny.system2 import tiny_processor, tiny_system2
from tests.tiny.vln import tiny_cma

SIZE = (64, 48)
CAMERA = {"hfov_deg": 79, "height_m": 1.25, "pitch_deg": 15}
NAVDP = {"image_size": 28, "action_horizon": 6, "action_stride": 1, "samples_per_episode": 4}


def train(model, dataset, collator, num_steps=2):
    """Losses of some steps on the first samples."""
    optimizer, losses = torch.optim.SGD(model.parameters(), 1e-3), []
    model.train()
    for _ in range(num_steps):
        output = model(**collator([dataset[0], dataset[1]]))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert np.isfinite(losses).all()
    return losses


def navdp(root, **options):
    return NavDPDataset(root, cache_dir=root.parent / "cache", **(NAVDP | options))


def write_vln_ce(root, dataset="r2r"):
    scene = root / dataset / "scene"
    episodes = [vln_ce.straight_episode(index) for index in range(2)]
    vln_ce.write_scene(scene, episodes, SIZE)
    for episode in episodes:
        vln_ce.write_depth(scene, episode, SIZE)
    return root


def write_vln_pe(root, camera=CAMERA):
    vln_pe.write_root(root)
    for unit in (root / "r2r").iterdir():
        (unit / "meta" / "info.json").write_text(json.dumps({"camera": camera} if camera else {}))
    return root


@pytest.mark.parametrize("write", [write_vln_ce, write_vln_pe])
def test_navdp_trains_where_there_are_depth_and_poses(tmp_path, write):
    dataset = navdp(write(tmp_path / "data"))
    train(tiny_navdp_model(), dataset, NavDPCollator())
    decision = dataset.decision(3)
    steps = np.linalg.norm(np.diff(decision["path"], axis=0), axis=1)
    assert_allclose(steps[steps > 1e-3], FORWARD_STEP_M, atol=1e-4)
    assert decision["camera"].hfov_deg == 79
    assert decision["rgb"].shape[:2] == decision["depth"].shape
    assert decision["scene"].startswith("scene")


def test_headings_of_robots_that_turn_on_the_spot_are_the_recorded_ones(tmp_path):
    dataset = navdp(write_vln_pe(tmp_path / "data"))
    for index in range(len(dataset)):
        decision = dataset.decision(index)
        draw, poses = decision["draw"], dataset._episode(decision["episode"]).poses
        turned = wrap_angle(poses[draw.goal - 1, 2] - poses[draw.current, 2])
        assert_allclose(decision["goal_point"][2], turned, atol=1e-6)


def test_a_dataset_is_named_with_its_camera_or_without(tmp_path):
    root = write_vln_ce(write_vln_ce(tmp_path / "data"), "rxr")
    groups = [None, "r2r", "r2r_125cm_0_30", ["r2r", "rxr_125cm_30_30"]]
    units = [set(navdp(root, groups=names).episodes["unit"].to_pylist()) for names in groups]
    both = {"r2r/scene", "rxr/scene"}
    assert units == [both, {"r2r/scene"}, {"r2r/scene"}, both]


def test_depth_of_two_cameras_asks_which(tmp_path):
    root = write_vln_ce(tmp_path / "data")
    for path in (root / "r2r").rglob("observation.images.depth.*"):
        path.with_name("observation.images.depth.125cm_45deg").mkdir()
    with pytest.raises(ValueError, match=r"depth: found images of .*name it, as in 'r2r_125cm_"):
        navdp(root)


def test_whole_walks_without_a_camera_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"without focal, .*info\.json may record the camera"):
        navdp(write_vln_pe(tmp_path / "data", camera=None))


# A format of one's own


def contributed():
    """The module that CONTRIBUTING adds."""
    page = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    section = page.partition("## Add a dataset format")[2]
    added = section.partition("```diff\n")[2].partition("```")[0].splitlines()
    module = ModuleType("my_logs")
    exec("\n".join(line.removeprefix("+") for line in added), module.__dict__)
    return module


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "FORMATS", {})
    contributed()
    for number in range(3):
        folder = tmp_path / "data" / "monday" / f"{number}"
        folder.mkdir(parents=True)
        goals = [4 if frame % 4 == 0 and frame < 8 else -1 for frame in range(12)]
        actions = vln_pe.some_actions()
        log = {"words": "Go.", "actions": actions, "goal_frames": goals}
        log["poses"] = vln_pe.poses_of(actions).tolist()
        log["goals"] = [[32, 24] if ahead > 0 else [-1, -1] for ahead in goals]
        (folder / "log.json").write_text(json.dumps(log))
        for frame in range(12):
            vln_ce.golden_image(frame, True, SIZE).save(folder / f"{frame}.png")
            depth_mm = np.full(SIZE[::-1], 1000 + 10 * frame, np.uint16)
            Image.fromarray(depth_mm).save(folder / f"depth_{frame}.png")
    return tmp_path / "data"


def test_one_function_makes_a_format_that_every_task_trains_on(logs):
    size = {"image_width": SIZE[0], "image_height": SIZE[1]}
    processor = tiny_processor()
    options = {"processor": processor, "cache_dir": logs.parent / "cache"}
    train(tiny_navdp_model(), navdp(logs), NavDPCollator())
    data = System2Dataset(logs, "my_logs", **options)
    assert data.camera == CameraSpec(*SIZE, pitch_deg=30.0)
    train(tiny_system2(**size), data, System2Collator(processor.pad_token_id))
    model = tiny_dual_system(**size)
    expert = model.config.action_expert_config
    sizes = {"image_size": expert.image_size, "action_horizon": expert.action_horizon}
    data = DualSystemDataset(logs, "my_logs", **sizes, **options)
    train(model, data, DualSystemCollator(processor.pad_token_id))
    for model, targets in ((tiny_cma(), "actions"), (tiny_rdp(), "displacements")):
        config, words = model.config, word_tokenizer(["<pad>", "<unk>", "go"])
        sizes = {"image_size": config.image_size, "depth_size": config.depth_size}
        options["processor"] = VLNProcessor(words, **sizes)
        train(model, VLNDataset(logs, targets=targets, **options), VLNCollator())
    options["processor"] = tiny_processor()
    assert len(System2Dataset(logs, "monday%50", **options)) > 0
    with pytest.raises(ValueError, match="found no folder with log.json, of format my_logs"):
        registry.FORMATS["my_logs"](logs, ["tuesday"]).find_folders()


def test_a_broken_episode_of_ones_own_format_is_named(logs):
    path = logs / "monday" / "1" / "log.json"
    log = json.loads(path.read_text())
    path.write_text(json.dumps(log | {"goal_frames": [-1]}))
    expected = r"(?s)1 of 3 episodes are broken.*monday/1, episode 0: goal_frames: found 1 frames"
    with pytest.raises(ValueError, match=expected):
        navdp(logs)
    assert navdp(logs, max_broken_fraction=0.5).episodes.num_rows == 2


@pytest.mark.parametrize("poses", [[["x"] * 3] * 12, [[0.5] * 2] * 12, [[float("nan")] * 3], 7, {}])
def test_poses_that_are_none_are_named(logs, poses):
    path = logs / "monday" / "1" / "log.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"poses": poses}))
    with pytest.raises(ValueError, match=r"monday/1.*: found .*, expected"):
        navdp(logs)


def test_what_a_task_lacks_is_named(logs, monkeypatch):
    read, cache = contributed().read_my_logs, {"cache_dir": logs.parent / "cache"}

    def without(*words):
        def read_less(folder):
            for row in read(folder):
                yield {n: value for n, value in row.items() if not any(w in n for w in words)}

        return read_less

    registry.register_format("my_logs", "log.json", without("goal"), version=2)
    derived = System2Dataset(logs, "my_logs", **cache)  # from poses and depth
    assert {0, 2} <= set(derived.samples["answer_class"].to_pylist())
    registry.register_format("my_logs", "log.json", without("goal", "depth"), version=4)
    expected = r"\(my_logs\): found episodes without goal_frames, goals, expected instructions"
    with pytest.raises(ValueError, match=rf"{expected}.*\(or depth_file, from which they follow\)"):
        System2Dataset(logs, "my_logs", **cache)

    def misspelt(folder):
        yield from ({**row, "instruction": "Go."} for row in read(folder))

    registry.register_format("my_logs", "log.json", misspelt, version=3)
    with pytest.raises(ValueError, match=r"row: found columns \['instruction'\], expected"):
        navdp(logs)


@pytest.mark.parametrize("word", ["robots%", "robots%0", "robots%x", "%30"])
def test_a_share_needs_a_folder_and_a_percentage(word, tmp_path, monkeypatch):
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots/log.txt").touch()
    monkeypatch.setattr(registry, "FORMATS", {})
    registry.register_format("bare", "log.txt", iter)
    with pytest.raises(ValueError, match=re.escape(word)):
        registry.dataset_names(tmp_path, word)
    assert str(registry.dataset_names(tmp_path, "robots")[0]) == "robots"
