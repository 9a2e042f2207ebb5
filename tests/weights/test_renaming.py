"""Maps of released checkpoints are made of a few steps on keys and shapes."""

import torch

from internnav_hf.weights.renaming import below, count_layers, in_three, renamed, sizes, under


def weights(*keys: str) -> dict[str, torch.Tensor]:
    return {key: torch.arange(6.0).reshape(6, 1) for key in keys}


def test_names_are_replaced_one_after_the_other_and_unknown_keys_stay():
    names = ((r"^old\.", "new."), (r"^new\.(\d)\.", lambda match: f"layers.{int(match[1]) - 1}."))
    assert renamed(weights("old.1.a", "very.old.1.a"), names).keys() == {
        "layers.0.a",
        "very.old.1.a",
    }


def test_a_prefix_is_taken_off_and_put_before():
    found = under("ours.", below(weights("theirs.a", "other.theirs.b"), "theirs."))
    assert found.keys() == {"ours.a"}


def test_a_joint_projection_becomes_three():
    found = in_three(weights("0.qkv.weight", "1.proj.weight"), ".qkv.", ".{}_proj.")
    assert found.keys() == {*(f"0.{letter}_proj.weight" for letter in "qkv"), "1.proj.weight"}
    assert found["0.k_proj.weight"].flatten().tolist() == [2, 3]


def test_sizes_and_numbers_of_layers_are_read():
    held = weights("layers.0.a", "layers.0.b", "layers.10.a", "table")
    assert sizes(held, {"table": ("vocab_size", 0), "gone": ("hidden_size", 1)}) == {
        "vocab_size": 6
    }
    assert count_layers(held, r"layers\.(\d+)\.") == 2
