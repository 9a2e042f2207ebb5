import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from internnav_hf.data import VLNCollator
from internnav_hf.data.tasks.vln_targets import inflection_weights
from tests.golden import GOLDEN


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "cma_collate_and_loss.safetensors")


def sample(golden, number: int) -> dict[str, np.ndarray]:
    """The golden's sample in our keys; there an instruction is repeated for every step."""
    part = {
        key.rpartition(".")[2]: value
        for key, value in golden.items()
        if key.startswith(f"in.sample{number}.")
    }
    return {
        "instruction_ids": part["instruction"][0],
        "rgb": part["rgb"],
        "progress": part["progress"],
        "previous_actions": np.concatenate([[-1], part["prev_actions"][1:]]),
        "actions": part["actions"],
        "inflection_weights": inflection_weights(part["actions"]),
    }


def test_the_batch_is_the_published_one_where_it_is_no_padding(golden):
    batch = VLNCollator()([sample(golden, number) for number in range(3)])
    mask = batch["step_mask"]
    assert mask.sum(dim=1).tolist() == [5, 3, 7]
    for key in ("rgb", "progress", "previous_actions", "instruction_ids"):
        theirs = golden[f"out.collated.{key.replace('previous', 'prev').removesuffix('_ids')}"]
        theirs = torch.from_numpy(theirs).unflatten(0, (7, 3)).transpose(0, 1)  # rows are t * N + n
        if key == "previous_actions":
            theirs = theirs[..., 0].clone()
            theirs[:, 0] = -1  # there it is 0, and a mask hides it
        if key == "instruction_ids":
            assert torch.equal(batch[key], theirs[:, 0])
        else:
            assert torch.equal(batch[key][mask], theirs[mask])
    assert torch.equal(batch["actions"], torch.from_numpy(golden["out.collated.actions"]).T)
    weights = torch.from_numpy(golden["out.collated.weights"]).T
    assert torch.equal(batch["inflection_weights"], weights)


def test_padding_is_zero_and_none(golden):
    batch = VLNCollator()([sample(golden, 1), sample(golden, 2)])
    assert batch["previous_actions"][0, 3:].tolist() == [-1] * 4
    for key in ("rgb", "progress", "actions", "inflection_weights"):
        assert not batch[key][0, 3:].any()
    assert batch["rgb"].dtype == torch.uint8
    assert batch["step_mask"].tolist() == [[True] * 3 + [False] * 4, [True] * 7]
    assert batch["episode_mask"].tolist() == [True, True]


def test_instructions_of_different_lengths_are_padded(golden):
    short = sample(golden, 0) | {"instruction_ids": np.array([5, 6])}
    ids = VLNCollator()([short, sample(golden, 1)])["instruction_ids"]
    assert ids[0].tolist() == [5, 6, 0, 0, 0, 0]


def test_samples_that_do_not_fit_are_refused(golden):
    narrow = sample(golden, 0) | {"rgb": np.zeros((5, 2, 3, 3), np.uint8)}
    with pytest.raises(ValueError, match="sample 1 of the batch: found .*'rgb': \\(2, 3, 3\\)"):
        VLNCollator()([sample(golden, 0), narrow])
    short = sample(golden, 0) | {"actions": np.zeros(4, int)}
    with pytest.raises(ValueError, match="'actions': 4.*expected as many of each"):
        VLNCollator()([short])
