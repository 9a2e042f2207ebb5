import pickle

import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from internnav_hf.training.samples import Numbered, NumberedCollator, diagnose, name_of, not_finite
from tests.tiny.toy_model import ToyDataset


class Named(ToyDataset):
    def __init__(self, scene: str, size: int = 4):
        super().__init__(size)
        self.scene, self.epoch = scene, 0

    def where(self, index):
        return f"{self.scene}, frame {index}"

    def set_epoch(self, epoch):
        self.epoch = epoch


def stack(samples):
    return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}


def test_batches_say_which_samples_they_hold():
    data = Numbered(Named("a"))
    batches = list(DataLoader(data, 3, collate_fn=NumberedCollator(stack)))
    assert [batch["sample_index"].tolist() for batch in batches] == [[0, 1, 2], [3]]
    data.set_epoch(2)
    assert data.dataset.epoch == 2
    assert len(pickle.loads(pickle.dumps(data))) == 4
    assert NumberedCollator(list)([(0, 1), (1, 2)]) == [1, 2]


def test_a_sample_is_named_by_where_it_is_from():
    both = ConcatDataset([Named("a"), Named("b")])
    assert name_of(Subset(both, [0, 5]), 1) == "sample 1 (b, frame 1)"
    assert name_of([1, 2], 1) == "sample 1"


def test_data_that_are_not_finite_are_found():
    batch = {"x": torch.tensor([1.0, torch.inf]), "ids": torch.tensor([1]), "name": "a"}
    assert not_finite(batch) == ["x"]


def test_samples_are_broken_where_others_are_not():
    data = Named("a")
    assert diagnose(data, [0, 1], stack, lambda batch: True) == ([], False)
    told, is_data = diagnose(data, [0, 1], stack, lambda b: bool(b["goal_pixel"].sum() > 1e9))
    assert (len(told), is_data) == (2, False)  # all of them: the model
    seen = iter([True, False])
    told, is_data = diagnose(data, [0, 1], stack, lambda batch: next(seen))
    assert (told, is_data) == (["sample 1 (a, frame 1)"], True)
