"""Lengths of dialogues without their images are those that encoding finds."""

import pytest
from PIL import Image

from internnav_hf.data import DualSystemDataset, System2Dataset
from internnav_hf.models.system2.dialogue import CONJUNCTIONS
from tests.data.vln_ce import straight_episode, write_scene
from tests.tiny.system2 import FAMILIES, tiny_processor

WORDS = ("Walk to the sofa.", "Turn <|image_pad|> left; then 12 steps...", "Go")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("lengths")
    episodes = [straight_episode(index, instruction=words) for index, words in enumerate(WORDS)]
    write_scene(root / "rxr" / "scene", episodes, size=(112, 84))
    return root


@pytest.mark.parametrize("family", FAMILIES)
def test_no_dialogue_is_longer_and_few_are_shorter(root, tmp_path, family, monkeypatch):
    dataset = System2Dataset(root, "rxr_125cm_0_30", tiny_processor(family), cache_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", None)
        lengths = dataset.lengths
    assert {*dataset.samples["answer_class"].to_pylist()} == {0, 1, 2}
    shorter = lengths - [len(sample["input_ids"]) for sample in dataset]
    assert min(shorter) == 0
    assert max(shorter) <= 2 * max(len(words.split()) for words in CONJUNCTIONS)
    assert len({*lengths.tolist()}) > 5


def test_the_dual_systems_dialogues_have_lengths_too(root, tmp_path):
    dataset = DualSystemDataset(
        root, "rxr_125cm_0_30", tiny_processor(), depth=False, cache_dir=tmp_path
    )
    assert (dataset.lengths >= [len(sample["input_ids"]) for sample in dataset]).all()


def test_without_a_processor_there_are_no_lengths(root, tmp_path):
    with pytest.raises(ValueError, match="lengths: found no processor"):
        _ = System2Dataset(root, "rxr_125cm_0_30", cache_dir=tmp_path).lengths
