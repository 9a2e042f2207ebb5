"""Samples, labels and images of the image-goal family are the published loader's."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from internnav_hf.data.tasks.image_goal_targets import (
    SampleRules,
    forward_stretches,
    sized,
    waypoints,
)
from internnav_hf.geometry import world_to_robot
from tests.golden import GOLDEN

NOTES = json.loads((GOLDEN / "gnm_family_data.json").read_text())
TENSORS = load_file(GOLDEN / "gnm_family_data.safetensors")
POSES = np.column_stack([TENSORS["position"], TENSORS["yaw"]])
SPACING = 0.25


def rules(name: str) -> SampleRules:
    given = NOTES[name]
    return SampleRules(
        num_memory_frames=given["context_size"] + 1,
        action_horizon=given["len_traj_pred"],
        end_slack=given["end_slack"],
        nearest_action=given["min_action_distance"],
        farthest_action=given["max_action_distance"],
        predicts_heading=given["learn_angle"],
    )


@pytest.mark.parametrize("name", ["gnm", "vint", "nomad"])
def test_the_published_samples(name):
    chosen, length = rules(name), len(POSES)
    (count,) = chosen.counts(np.array([length]))
    frames = range(chosen.first(), chosen.first() + count)
    index = [[frame, chosen.farthest_goal(frame, length)] for frame in frames]
    assert index == NOTES[name]["index"]


@pytest.mark.parametrize("name", ["gnm", "vint", "nomad"])
@pytest.mark.parametrize("case", range(5))
def test_the_published_labels(name, case):
    given, chosen = NOTES[name]["cases"][case], rules(name)
    frame, goal = given["curr_time"], given["goal_time"]
    found = waypoints(POSES, frame, chosen, SPACING)
    np.testing.assert_allclose(found, TENSORS[f"{name}.{case}.actions"], atol=1e-5)
    goal_pos = world_to_robot(POSES[goal, :2], POSES[frame]) / SPACING
    np.testing.assert_allclose(goal_pos, TENSORS[f"{name}.{case}.goal_pos"], atol=1e-5)
    counts = chosen.action_counts(given["distance"], given["negative"])
    assert counts == bool(given["action_mask"])


@pytest.mark.parametrize("name", ["wide", "tall", "fourthree"])
@pytest.mark.parametrize("size", [(85, 64), (96, 96)])
def test_the_published_images(name, size):
    image = Image.fromarray(TENSORS[f"image.{name}"])
    expected = TENSORS[f"image.{name}.{size[0]}x{size[1]}"]
    np.testing.assert_allclose(sized(image, size, crop=True) / 255, expected, atol=1e-6)


def test_a_nearly_square_image_gets_black_edges_and_uncropped_ones_none():
    image = Image.new("RGB", (50, 48), "white")
    edges = sized(image, (64, 48), crop=True)
    assert edges[:, 24, 0].tolist() == [0, 0, 0]
    assert edges[:, 24, 32].tolist() == [255, 255, 255]
    assert sized(image, (64, 48), crop=False).min() == 255


def test_the_published_cuts_of_recordings():
    given = NOTES["filter_backwards"]
    poses = np.column_stack([given["position"], given["yaw"]])
    stretches = forward_stretches(poses)
    assert [list(one) for one in stretches] == [cut["images"] for cut in given["cuts"]]
    for one, cut in zip(stretches, given["cuts"], strict=True):
        np.testing.assert_allclose(poses[list(one), :2], cut["position"])


def test_labels_repeat_the_last_pose_of_a_short_episode():
    found = waypoints(POSES, len(POSES) - 3, SampleRules(), SPACING)
    np.testing.assert_allclose(found[2:], np.repeat(found[1:2], 3, axis=0))
