import numpy as np
import pytest

from internnav_hf.data import VLNCollator, VLNDataset
from internnav_hf.models.vln_processor import VLNProcessor, word_tokenizer
from tests.data import vln_pe

IMAGE, DEPTH = 8, 6


def processor_of(words=vln_pe.WORDS, **options) -> VLNProcessor:
    sizes = {"image_size": IMAGE, "depth_size": DEPTH}
    return VLNProcessor(word_tokenizer(words), **(sizes | options))


@pytest.fixture
def root(tmp_path):
    return vln_pe.write_root(tmp_path / "traj_data")


@pytest.fixture
def open_dataset(tmp_path):
    def make(root, processor=None, **options) -> VLNDataset:
        return VLNDataset(
            root, processor or processor_of(), cache_dir=tmp_path / "cache", **options
        )

    return make


def test_an_item_is_one_walk_with_one_instruction(root, open_dataset):
    dataset = open_dataset(root)
    assert len(dataset) == 2 * 2 * 3
    item = dataset[4]
    actions = vln_pe.some_actions(9)
    assert dataset.text(4) == vln_pe.INSTRUCTIONS[1]
    assert item["instruction_ids"].tolist() == [9, 10, 7, 2]
    assert item["actions"].tolist() == actions
    assert item["previous_actions"].tolist() == [-1, *actions[:-1]]
    assert item["inflection_weights"].shape == (9,)
    assert item["rgb"].shape == (9, 3, IMAGE, IMAGE)
    assert item["depth"].shape == (9, DEPTH, DEPTH)
    np.testing.assert_allclose(item["progress"], np.arange(9) / 9, rtol=1e-6)
    assert dataset.lengths.tolist() == [6] * 3 + [9] * 3 + [7] * 3 + [10] * 3


def test_items_go_into_a_batch(root, open_dataset):
    dataset = open_dataset(root)
    batch = VLNCollator()([dataset[0], dataset[11]])
    assert batch["step_mask"].sum(dim=1).tolist() == [6, 10]
    assert batch["rgb"].shape == (2, 10, 3, IMAGE, IMAGE)
