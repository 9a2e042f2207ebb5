"""Licences follow base and data; the card says how a model was made."""

import pytest
import torch

from internnav_hf.data import System2Dataset
from internnav_hf.hub import (
    NON_COMMERCIAL,
    convert_released,
    licence_of,
    model_card,
    save_model_card,
)
from tests.data.vln_ce import straight_episode, write_scene
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.rdp import tiny_rdp
from tests.tiny.system2 import tiny_processor, tiny_system2
from tests.tiny.vln import tiny_cma


@pytest.mark.parametrize(
    ("base", "datasets", "licence"),
    [
        ("InternRobotics/InternVLA-N1-System2", ["mine_125cm_0_30"], NON_COMMERCIAL),
        ("Qwen/Qwen2.5-VL-3B-Instruct", ["r2r_125cm_0_30%30", "mine_125cm_0_30"], NON_COMMERCIAL),
        ("Qwen/Qwen2.5-VL-7B-Instruct", ["mine_125cm_0_30"], None),
        ("Qwen/Qwen2.5-VL-3B-Instruct", ["mine_125cm_0_30"], "other"),  # for research only
        ("random", ["hssd_zed", "mine_zed"], NON_COMMERCIAL),
        ("random", ["mine_zed"], None),
        ("weights/navdp-cross-modal.ckpt", ["mine_zed"], NON_COMMERCIAL),
        ("outputs/train_navdp", ["mine_zed"], None),
        ("random weights", ["r2r_flash"], NON_COMMERCIAL),
        ("InternRobotics/VLN-PE", ["mine"], None),
        ("random weights", ["simulated_train"], None),
    ],
)
def test_the_licence_follows_base_and_data(base, datasets, licence):
    assert licence_of(base, datasets) == licence


def test_the_card_names_base_data_command_and_numbers():
    datasets = ["r2r_125cm_0_30"]
    card = model_card(
        tiny_system2(), "Qwen/X", datasets, "python recipes/train_system2.py", {"sr": 0.5}
    )
    for words in (
        f"license: {NON_COMMERCIAL}",
        "`Qwen/X`",
        "`r2r_125cm_0_30`",
        "112x84",
        "| sr | 0.5 |",
    ):
        assert words in card
    assert "| metric" not in model_card(tiny_system2(), "Qwen/X", datasets, "x")


def test_the_card_of_a_navdp_names_its_goals():
    card = model_card(tiny_navdp_model(goal_kinds=("point", "none")), "random", ["mine_zed"], "x")
    assert "for the goals point, none. Its input is 8 frames of 28x28 pixels and depth." in card
    assert "NavDPPolicy.from_pretrained" in card
    assert "- visual-navigation" in card
    assert "license" not in card


@pytest.mark.parametrize(
    ("model", "name", "policy"),
    [(tiny_cma, "CMA", "VLNPolicy"), (tiny_rdp, "RDP", "RDPPolicy")],
)
def test_the_card_of_a_follower_names_its_policy(model, name, policy):
    card = model_card(model(), "random weights", ["simulated_train"], "x")
    assert f"A {name}: RGB images of 32x32 pixels, depth and an instruction in" in card
    assert f"import {policy}\n" in card
    assert "- vision-and-language-navigation" in card


def test_released_names_are_converted_in_old_and_new_layout():
    model = tiny_system2(use_pixel_goal_head=False)
    ours = model.state_dict()
    new = {key.removeprefix("vlm."): value for key, value in ours.items()}
    old = {
        key.replace("model.visual.", "visual.").replace("model.language_model.", "model."): value
        for key, value in new.items()
    }
    assert "visual.patch_embed.proj.weight" in old
    for released in (new, old):
        converted = convert_released(released, model)
        assert converted.keys() == ours.keys()
        assert all(torch.equal(converted[key], ours[key]) for key in ours)


def test_a_model_without_a_map_of_released_names_is_one_line():
    with pytest.raises(ValueError, match="No checkpoint of a internnav_cma was released"):
        convert_released({}, tiny_cma())


def test_a_tied_output_layer_may_be_left_out():
    model = tiny_system2(use_pixel_goal_head=False)
    released = {key.removeprefix("vlm."): value for key, value in model.state_dict().items()}
    del released["lm_head.weight"]
    assert "vlm.lm_head.weight" in convert_released(released, model)
    untied = tiny_system2(use_pixel_goal_head=False, tie_word_embeddings=False)
    with pytest.raises(ValueError, match="vlm.lm_head.weight"):
        convert_released(released, untied)


def test_a_saved_card_has_the_measured_numbers(tmp_path):
    (tmp_path / "eval_results.json").write_text('{"eval_pixel_error_px": 12.5, "note": "x"}')
    write_scene(tmp_path / "r2r" / "a", [straight_episode(0)], size=(112, 84))
    data = System2Dataset(tmp_path, "r2r_125cm_0_30", tiny_processor(), cache_dir=tmp_path / "c")
    save_model_card(tmp_path, tiny_system2(), "Qwen/X", data)
    card = (tmp_path / "README.md").read_text()
    assert "| eval_pixel_error_px | 12.5 |" in card
    assert "note" not in card
    assert f"license: {NON_COMMERCIAL}" in card
