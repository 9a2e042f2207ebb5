"""What every policy promises about what it is given: one clear error before anything changes, and
one word about another camera than that of its training.
"""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from internnav_hf.camera import CameraSpec, stored_cameras
from internnav_hf.policies import ImageGoal, PixelGoal, PointGoal
from tests.policies.cases import (
    CAMERA,
    CASES,
    HEIGHT,
    WIDTH,
    Case,
    answer,
    assert_same,
    drives_to_goals,
)

# What is made of a good picture, depth or pose, and a word of the error.
PICTURES = {
    "None": (lambda rgb: None, "found no"),
    "0 to 1": (lambda rgb: (rgb / 255).astype(np.float32), r"\* 255"),
    "0 to 255": (lambda rgb: rgb.astype(np.float64), r"rgb\.round\(\)"),
    "NaN": (lambda rgb: np.where(rgb > 250, np.nan, rgb), "NaN"),
    "channels first": (lambda rgb: rgb.transpose(2, 0, 1), "channels last"),
    "a batch of one": (lambda rgb: rgb[None], r"rgb\[0\]"),
    "a batch": (lambda rgb: np.stack([rgb, rgb]), "one view for each robot"),
    "alpha": (lambda rgb: np.dstack([rgb, rgb[..., 0]]), "alpha"),
    "grey": (lambda rgb: rgb[..., 0], "grey"),
    "grey, last axis": (lambda rgb: rgb[..., :1], "grey"),
    "two channels": (lambda rgb: rgb[..., :2], "expected RGB"),
    "16 bits": (lambda rgb: rgb.astype(np.uint16) * 257, "found uint16"),
    "int64": (lambda rgb: rgb.astype(np.int64), "found int64"),
    "bool": (lambda rgb: rgb > 9, "found bool"),
    "no pixel": (lambda rgb: rgb[:0], "expected RGB"),
    "a list": (lambda rgb: rgb[:2].tolist(), "found a list"),
    "a path": (lambda rgb: "frame.jpg", "found str 'frame.jpg'"),
    "a float tensor": (lambda rgb: torch.from_numpy(rgb) / 255, r"\* 255"),
    "a bfloat16 tensor": (lambda rgb: torch.zeros(4, 4, 3, dtype=torch.bfloat16), "expected RGB"),
    "channels first tensor": (lambda rgb: torch.from_numpy(rgb).permute(2, 0, 1), "channels last"),
    "see-through": (lambda rgb: Image.new("RGBA", (WIDTH, HEIGHT)), "alpha"),
    "16-bit grey image": (lambda rgb: Image.new("I;16", (WIDTH, HEIGHT)), "mode"),
    "float image": (lambda rgb: Image.new("F", (WIDTH, HEIGHT)), "mode"),
    "an empty image": (lambda rgb: Image.new("RGB", (0, 0)), "expected RGB"),
}
DEPTHS = {
    "None": (lambda depth: None, "found no"),
    "millimetres": (lambda depth: (depth * 1000).astype(np.uint16), "divide millimetres by 1000"),
    "float millimetres": (lambda depth: depth * 1000, r"a median of \d{4}, expected metres"),
    "bytes": (lambda depth: (depth * 50).astype(np.uint8), "expected metres"),
    "negative": (lambda depth: -depth, "100% negative"),
    "one axis more": (lambda depth: depth[..., None], r"depth\[\.\.\., 0\]"),
    "a batch of one": (lambda depth: depth[None], r"depth\[0\]"),
    "colours": (lambda depth: np.dstack([depth] * 3), "expected the shape of"),
    "another aspect": (lambda depth: depth[:, : WIDTH // 2], "or as high for its width"),
    "turned": (lambda depth: depth.T, "or as high for its width"),
    "no pixel": (lambda depth: depth[:0], "expected metres"),
    "a list": (lambda depth: depth.tolist(), "found a list"),
    "bool": (lambda depth: depth > 1, "found bool"),
    "16-bit image": (lambda depth: Image.new("I;16", (WIDTH, HEIGHT), 2000), "divide millimetres"),
    "an integer tensor": (lambda depth: torch.ones(HEIGHT, WIDTH).int(), "expected metres"),
}
POSES = {
    "None": (lambda pose: None, "found None, expected x, y, yaw"),
    "two": (lambda pose: pose[:2], "expected x, y, yaw"),
    "NaN": (lambda pose: (*pose[:2], np.nan), "expected x, y, yaw"),
    "a matrix": (lambda pose: np.eye(4), r"shape \(4, 4\)"),
    "text": (lambda pose: "0 0 0", "found str"),
    "a dict": (lambda pose: {"x": 0}, "found a dict"),
}
WHOLE = {
    "None": (lambda seen: None, "found None, expected a dict with 'rgb'"),
    "a picture": (lambda seen: seen["rgb"], "expected a dict with 'rgb'"),
    "a tuple": (lambda seen: (seen,), "found a tuple"),
    "nothing": (lambda seen: {}, "found no 'rgb'; it has no key"),
    "misspelt": (lambda seen: {"rbg": seen["rgb"]} | seen | {"rgb": None}, "did you mean 'rgb'"),
    "capitals": (
        lambda seen: {k.upper(): v for k, v in seen.items()},
        "found no 'rgb', but 'RGB': did you mean 'rgb'",
    ),
}
NO_TEXT = (None, "", "  \n", "...", 5, ["walk", "on"], b"walk", "walk " * 10_000, "walk \ud800")


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def bad_observations(case: Case, seen: dict[str, Any]):
    """(what, observation, words of the error) of every kind."""
    for key in case.keys:
        wrong = DEPTHS if key.startswith("depth") else POSES if key == "pose" else PICTURES
        for name, (make, told) in wrong.items():
            if (key, name) != ("rgb_look_down", "None"):
                told = rf"{key}.*{told}" if name != "None" else told
                yield f"{key}: {name}", seen | {key: make(seen[key])}, told
    for name, (make, told) in WHOLE.items():
        yield name, make(seen), told


def assert_refused(do, policy: Any, what: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as error:
        do()
    text = str(error.value)
    assert type(policy).__name__ in text, what
    assert len(text) < 300, what
    assert "\n" not in text, what


def test_a_bad_observation_is_one_error_and_changes_nothing(case):
    untouched, policy = case.make(), case.make()
    for each in (untouched, policy):
        case.reset(each)
        case.act(each, case.seen(0))
    for what, wrong, told in bad_observations(case, case.seen(1)):
        assert_refused(lambda wrong=wrong: case.act(policy, wrong), policy, what, told)
    for index in (1, 2):
        expected = case.act(untouched, case.seen(index))
        assert_same(case.act(policy, case.seen(index)), expected)
    assert len(answer(expected)) > 0


def test_a_bad_frame_between_two_answers_changes_nothing(case):
    policy, untouched = case.make(), case.make()
    if not hasattr(policy, "observe"):
        return
    if not drives_to_goals(policy):
        with pytest.raises(ValueError, match="call reset"):
            policy.observe(case.seen(0)["rgb"])
    for each in (untouched, policy):
        case.reset(each)
    for name, (make, told) in PICTURES.items():
        wrong = make(case.seen(0)["rgb"])
        given = (policy.episode, {"rgb": wrong}) if drives_to_goals(policy) else (wrong,)
        told = "found no|found None" if name == "None" else told
        assert_refused(lambda given=given: policy.observe(*given), policy, name, told)
    assert_same(case.act(policy, case.seen(1)), case.act(untouched, case.seen(1)))


def test_a_system2_that_waits_for_the_look_down_view_goes_on_waiting():
    case = CASES["System2Policy"]
    policy, untouched = case.make(), case.make()
    for each in (policy, untouched):
        case.reset(each)
        assert each.act({"rgb": case.seen(0)["rgb"]}).goal_pixel is None
    view = case.seen(0)["rgb_look_down"]
    for wrong, told in (
        ({"rgb": view}, "asked for the look-down view"),
        ({"rgb_lookdown": view}, "did you mean 'rgb_look_down'"),
        ({"rgb_look_down": view[:, :56]}, "the look-down view is 56x84"),
        ({"rgb_look_down": view / 255}, r"\* 255"),
        ({}, "asked for the look-down view"),
    ):
        assert_refused(lambda wrong=wrong: policy.act(wrong), policy, told, told)
    found, expected = (each.act({"rgb_look_down": view}) for each in (policy, untouched))
    assert found.goal_pixel is not None
    assert_same(found, expected)
    assert_same(case.act(policy, case.seen(1)), case.act(untouched, case.seen(1)))


def test_a_bad_observation_of_one_robot_changes_nothing_for_any(case):
    policies = [case.make(), case.make()]
    robots = [[case.start(policy, name) for name in "abc"] for policy in policies]
    for policy, episodes in zip(policies, robots, strict=True):
        case.steps(policy, episodes, [case.seen(i) for i in range(3)])
    good = [case.seen(i) for i in range(3, 6)]
    for what, wrong, told in bad_observations(case, good[1]):
        given = (policies[1], robots[1], [good[0], wrong, good[2]])
        assert_refused(lambda given=given: case.steps(*given), policies[1], what, "2 of 3.*" + told)
    found, expected = (case.steps(*pair, good) for pair in zip(policies, robots, strict=True))
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_robots_and_observations_that_do_not_match_are_refused(case):
    policy = case.make()
    one, other = case.start(policy, "a"), case.start(policy, "b")
    for episodes, observations, told in (
        ([one, other], [case.seen(0)], "2 episodes.* 1 observations"),
        ([one], [case.seen(0), case.seen(1)], "1 episodes.* 2 observations"),
        ([one, one], [case.seen(0), case.seen(1)], "one episode twice"),
        ([None], [case.seen(0)], "no episode has begun"),
        (["a"], [case.seen(0)], "episode: found str 'a'"),
    ):
        given = (policy, episodes, observations)
        assert_refused(lambda given=given: case.steps(*given), policy, told, told)
    assert case.steps(policy, [], []) == []


def test_nothing_is_done_before_reset(case):
    policy = case.make()
    if drives_to_goals(policy):
        assert_same(case.act(policy, case.seen(0)), case.act(case.make(), case.seen(0)))
        return
    assert_refused(lambda: case.act(policy, case.seen(0)), policy, "act", "call reset")
    case.reset(policy)
    new = case.make()
    case.reset(new)
    assert_same(case.act(policy, case.seen(0)), case.act(new, case.seen(0)))


def test_what_is_no_text_is_refused_and_the_episode_goes_on(case):
    policy, untouched = case.make(), case.make()
    if drives_to_goals(policy):
        return
    for each in (policy, untouched):
        case.reset(each)
        case.act(each, case.seen(0))
    for text in NO_TEXT:
        told = "instruction: found"
        assert_refused(lambda text=text: policy.reset(text), policy, repr(text)[:20], told)
    assert_same(case.act(policy, case.seen(1)), case.act(untouched, case.seen(1)))


def test_reset_forgets_all_and_stop_forbids_nothing(case):
    policy = case.make()
    case.reset(policy)
    first = [case.act(policy, case.seen(i)) for i in range(3)]
    case.reset(policy)
    for found, expected in zip(
        [case.act(policy, case.seen(i)) for i in range(3)], first, strict=True
    ):
        assert_same(found, expected)


def test_pictures_are_read_as_files_are(case):
    """PIL images, tensors and arrays of any strides; turned as their EXIF says."""
    seen = case.seen(0)
    policy = case.make()
    case.reset(policy)
    expected = case.act(policy, seen)
    turned = Image.fromarray(np.rot90(seen["rgb"], 1).copy())
    turned.getexif()[0x0112] = 6  # shown a quarter turn clockwise
    flipped = np.flip(seen["rgb"], -1).copy()[..., ::-1]
    image = Image.fromarray(seen["rgb"])
    for rgb in (image, image.convert("RGBA"), torch.from_numpy(seen["rgb"]), flipped, turned):
        case.reset(policy)
        assert_same(case.act(policy, seen | {"rgb": rgb}), expected)


def test_a_view_that_the_robot_overwrites_later_was_seen(case):
    """Drivers reuse their buffers."""
    policy, untouched = case.make(), case.make()
    buffers = {key: np.array(value) for key, value in case.seen(0).items()}
    for each in (policy, untouched):
        case.reset(each)
    for index in range(3):
        for key, value in case.seen(index).items():
            buffers[key][...] = value
        found = case.act(policy, buffers)
        for buffer in buffers.values():
            buffer[...] = 0
        assert_same(found, case.act(untouched, case.seen(index)))


def test_depth_without_return_is_unknown(case, caplog):
    key = next((key for key in case.keys if key.startswith("depth")), None)
    if key is None:
        return
    policy, seen = case.make(), case.seen(0)
    holes = seen[key].copy()
    holes[::3] = 0
    expected = None
    for hole in (0, np.inf, -np.inf, np.nan):
        case.reset(policy)
        holes[::3] = hole
        found = case.act(policy, seen | {key: holes.copy()})
        assert_same(found, expected or found)
        expected = found
    assert "depth" not in caplog.text
    for _ in range(2):
        case.act(policy, seen | {key: np.zeros_like(holes)})
    assert caplog.text.count("found no distance at all") == 1


def test_odd_poses_are_told_once(caplog):
    case = CASES["RDPPolicy"]
    policy = case.make()
    case.reset(policy)
    for x, yaw in ((0.0, 0.0), (0.2, 90.0), (250.0, 90.0), (500.0, 90.0)):
        case.act(policy, case.seen(0) | {"pose": (x, 0.0, yaw)})
    assert caplog.text.count("a yaw of 90, more than a turn: is it in radians?") == 1
    assert caplog.text.count("found 249.8 m since the last view: are x and y in metres?") == 1


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        (PointGoal((1.0, 2.0, 3.0)), "expected two finite numbers"),
        (PointGoal("ab"), "expected two finite numbers"),
        (PointGoal(None), "expected two finite numbers"),
        (PointGoal((np.nan, 0.0)), "expected two finite numbers"),
        (PointGoal(np.zeros((500, 2))), "expected two finite numbers"),
        (PixelGoal((3.0, np.inf)), "expected two finite numbers"),
        (PixelGoal((3.0, 4.0), np.zeros((4, 4), np.uint8)), "view: found.*grey"),
        (ImageGoal(None), "image: found None"),
        (ImageGoal(np.zeros((4, 4, 3))), "image: found float64"),
        (np.zeros((400, 400)), "expected a PointGoal"),
        (None, "expected a PointGoal"),
    ],
)  # fmt: skip
def test_a_bad_goal_is_one_error_and_changes_nothing(goal, told):
    case = CASES["NavDPPolicy"]
    untouched, policy = case.make(), case.make()
    assert_refused(lambda: case.act(policy, case.seen(0), goal=goal), policy, str(told), told)
    assert_same(case.act(policy, case.seen(0)), case.act(untouched, case.seen(0)))


# ------------------------------------- cameras -------------------------------------


def test_another_size_is_told_once(case, caplog):
    policy = case.make(CAMERA.to_dict())
    case.reset(policy)
    assert (policy.camera, policy.cameras) == (CAMERA, (CAMERA,))
    case.act(policy, case.seen(0))
    assert not caplog.records
    half = case.seen(1)["rgb"][:, : WIDTH // 2]
    seen = case.seen(1) | {"rgb": half}
    seen |= {"depth": seen["depth"][:, : WIDTH // 2]} if "depth" in seen else {}
    for _ in range(2):
        case.act(policy, seen)
    told = f"rgb: found 56x84 pixels, trained with {WIDTH}x{HEIGHT} pixels, another shape."
    assert [record.getMessage() for record in caplog.records] == [
        f"{policy.contract.policy}: {told}"
    ]
    strict, fresh = case.make(CAMERA.to_dict(), strict_camera=True), case.make(CAMERA.to_dict())
    for each in (strict, fresh):
        case.reset(each)
    assert_refused(
        lambda: case.act(strict, seen), strict, "strict", "strict_camera: rgb: found 56x84"
    )
    assert_same(case.act(strict, case.seen(0)), case.act(fresh, case.seen(0)))


def test_a_robot_may_tell_its_camera(case, caplog):
    stored, own = CAMERA.to_dict(), replace(CAMERA, height_m=1.2, pitch_deg=20.0)
    case.make(stored, camera=replace(CAMERA, height_m=0.51))  # as well as one can measure
    assert not caplog.records
    policy = case.make(stored, camera=own)
    name = type(policy).__name__
    assert f"{name}: camera: trained at 50 cm, 0°" in caplog.text
    assert "this camera is 120 cm, 20°/30°" in caplog.text
    with pytest.raises(ValueError, match="strict_camera: camera: trained at 50 cm"):
        case.make(stored, camera=own, strict_camera=True)
    with pytest.raises(ValueError, match="camera: found a dict, expected a CameraSpec"):
        case.make(stored, camera=own.to_dict())
    case.make([stored, own.to_dict()], camera=own, strict_camera=True)


def test_an_unknown_camera_is_told_once_and_cannot_be_strict(case, caplog):
    policy = case.make(None, camera=CAMERA)
    case.reset(policy)
    for index in range(2):
        case.act(policy, case.seen(index))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "does not say which camera it was trained with" in caplog.text
    assert policy.camera is None
    with pytest.raises(ValueError, match="strict_camera: the model does not say"):
        case.make(None, strict_camera=True)


def test_a_set_of_cameras_travels_with_the_model(case, tmp_path):
    cameras = (CAMERA, CameraSpec())
    policy = case.make(stored_cameras(cameras))
    policy.model.save_pretrained(tmp_path)
    told: dict[str, Any] = {"camera": CameraSpec(), "strict_camera": True}
    if not drives_to_goals(policy):
        policy.processor.save_pretrained(tmp_path)
    opened = type(policy).from_pretrained(tmp_path, **told)
    assert opened.cameras == policy.cameras == cameras
    told["camera"] = CameraSpec(height_m=2.0)
    with pytest.raises(ValueError, match=r"the nearest of 2 cameras\); this camera is 200 cm"):
        type(policy).from_pretrained(tmp_path, **told)
