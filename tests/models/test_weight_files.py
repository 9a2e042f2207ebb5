"""Checkpoints with pickled objects give their tensors and nothing else."""

import os
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from internnav_hf.models.weight_files import read_tensors

WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), bias=torch.ones(3).half())


class Touch:
    """Unpickled as usual, it leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def config_of_another_library(monkeypatch):
    """As VLN-CE's: a dict with attributes, of a class that is not there when the file is read."""
    module = types.ModuleType("another_library")
    exec("class Config(dict):\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "another_library", module)
    config = module.Config(TRAINER="dagger", SENSORS=[1, 2])
    config.frozen = True
    config["MODEL"] = module.Config(size=(1, 2), kinds={"a"})
    return config


def assert_weights(found: dict) -> None:
    assert found.keys() == WEIGHTS.keys()
    for key, value in WEIGHTS.items():
        assert_close(found[key], value, atol=0, rtol=0)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_beside_an_unknown_configuration_are_read(
    tmp_path, monkeypatch, config_of_another_library, zipped
):
    content = {"state_dict": WEIGHTS, "config": config_of_another_library, "epoch": 3}
    file = tmp_path / "model.pth"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "another_library")
    assert_weights(read_tensors(file))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_does_nothing(tmp_path, zipped):
    file, mark = tmp_path / "model.pth", tmp_path / "mark"
    content = {"state_dict": WEIGHTS, "config": Touch(mark)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert_weights(read_tensors(file))
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists()  # so it would have


def test_other_kinds_of_files_are_read_too(tmp_path):
    save_file(dict(WEIGHTS), tmp_path / "a.safetensors")
    torch.save(WEIGHTS, tmp_path / "a.bin")
    torch.save({key: torch.nn.Parameter(value) for key, value in WEIGHTS.items()}, tmp_path / "p")
    for name in ("a.safetensors", "a.bin", "p"):
        assert_weights(
            {key: value.detach() for key, value in read_tensors(tmp_path / name).items()}
        )


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x04]\x94."])
def test_a_file_without_tensors_is_one_error(tmp_path, content):
    file = tmp_path / "model.pth"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.pth: found .*, expected a"):
        read_tensors(file)


def test_an_object_where_tensors_should_be_is_named(tmp_path):
    file = tmp_path / "model.pth"
    torch.save({"state_dict": {"weight": torch.zeros(1), "name": "cma"}}, file)
    with pytest.raises(ValueError, match="found Tensor, str, expected a dict of names and tensors"):
        read_tensors(file)


def test_a_pickle_that_asks_for_more_memory_than_it_fills_gets_none(tmp_path):
    """C's unpickler would make a table of 2**32 entries of it."""
    file = tmp_path / "model.pth"
    pickled = b"\x80\x02}q\x00canother_library\nConfig\nr" + struct.pack("<I", 2**31 - 1) + b"0."
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    with pytest.raises(ValueError, match="found nothing, expected a dict of names and tensors"):
        read_tensors(file)


def test_a_tensor_that_claims_more_than_the_file_holds_is_an_error(tmp_path):
    torch.save({"weight": torch.ones(1).expand(2**40)}, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"a.pth: found .*weight: found 1 elements, expected \(1099511627"
    ):
        read_tensors(tmp_path / "a.pth")
    torch.save({"weight": torch.eye(2).to_sparse()}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match="b.pth: found .*sparse"):
        read_tensors(tmp_path / "b.pth")


def test_tensors_without_names_are_an_error(tmp_path):
    torch.save({0: torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="expected a dict of names and tensors"):
        read_tensors(tmp_path / "a.pth")
