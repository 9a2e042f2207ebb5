"""Files of weights give their tensors and nothing else, and are compared with their size first."""

import argparse
import os
import struct
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import Dinov2Config, ResNetConfig

from internnav_hf.models.common.clip import load_clip
from internnav_hf.models.common.depth_resnet import DepthResNet
from internnav_hf.models.common.dino import DinoEncoder, load_dino
from internnav_hf.models.common.rgb_resnet import RGBResNet
from internnav_hf.models.rdp.model import RDPModel
from internnav_hf.models.vln.cma import CMAModel
from internnav_hf.models.vln.seq2seq import Seq2SeqModel
from internnav_hf.models.vln.start import load_depth_encoder, load_part, load_rgb_encoder
from internnav_hf.policies import NavDPPolicy, load_vln_policy
from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.torch_files import StoredTensor, TorchFile
from tests.hostile_files import SAFETENSORS, WRITERS
from tests.processes import run

ROOT = Path(__file__).parents[2]
WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), bias=torch.ones(3).half())


FOR_ALL = ("call_in_place_of_a_tensor", "source_patch", "stride_zero", "folder", "missing", "pipe")


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
    with pytest.raises(ValueError, match=r"a.pth: found .*its tensors would have 4398046511104"):
        read_tensors(tmp_path / "a.pth")
    torch.save({"weight": torch.eye(2).to_sparse()}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match="b.pth: found .*sparse"):
        read_tensors(tmp_path / "b.pth")


def test_tensors_without_names_are_an_error(tmp_path):
    torch.save({0: torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="expected a dict of names and tensors"):
        read_tensors(tmp_path / "a.pth")


@pytest.mark.parametrize("name", WRITERS)
def test_no_hostile_or_broken_file_is_read(tmp_path, name):
    file, mark = tmp_path / "in" / "weights.pth", tmp_path / "mark"
    file.parent.mkdir()
    WRITERS[name](file, mark)
    before = [*file.parent.iterdir()]
    with pytest.raises(ValueError, match=r"weights.pth: (found|there is|it cannot)") as error:
        read_tensors(file)
    assert len(str(error.value).splitlines()) == 1
    assert [*file.parent.iterdir()] == before
    assert not [*tmp_path.glob("mark*")]


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_are_compared_with_their_header(tmp_path, name):
    file = tmp_path / "model.safetensors"
    file.write_bytes(SAFETENSORS[name])
    with pytest.raises(
        ValueError, match=r"model.safetensors: found .*, expected a file of"
    ) as told:
        read_tensors(file)
    assert len(str(told.value).splitlines()) == 1


def loaders() -> dict:
    dino = DinoEncoder(Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
    resnet = RGBResNet(ResNetConfig(**sizes))
    return {
        "depth": lambda file: load_depth_encoder(DepthResNet(4, (1,), 8), file),
        "resnet": lambda file: load_rgb_encoder(resnet, file),
        "clip": lambda file: load_clip(None, None, file),
        "dino": lambda file: load_dino(dino, file),
        "navdp": NavDPPolicy.from_pretrained,
        "seq2seq": Seq2SeqModel.from_pretrained,
        "cma": CMAModel.from_pretrained,
        "rdp": RDPModel.from_pretrained,
        "follower": load_vln_policy,
        "part": lambda file: load_part("depth_encoder", DepthResNet(4, (1,), 8), file),
    }


@pytest.mark.parametrize("loader", loaders())
def test_every_loader_of_files_refuses_them_all(tmp_path, loader):
    """All kinds are tried on the reader above; here each on one loader, and some on all."""
    found = loaders()
    load, turn = found[loader], list(found).index(loader)
    for name in {*FOR_ALL, *list(WRITERS)[turn :: len(found)]}:
        folder = tmp_path / name
        folder.mkdir()
        WRITERS[name](folder / "weights.pth", tmp_path / "mark")
        with pytest.raises(ValueError, match="weights.pth"):
            load(folder / "weights.pth")
    assert not [*tmp_path.glob("mark*")]


def test_hostile_files_take_no_memory(tmp_path):
    program = tmp_path / "read.py"
    program.write_text(
        "import re, sys\nfrom pathlib import Path\n"
        "from internnav_hf.weights.inert_pickle import read_tensors\n"
        "from tests.hostile_files import WRITERS\n"
        "for name, write in WRITERS.items():\n"
        "    folder = Path(sys.argv[1], name)\n    folder.mkdir()\n"
        "    write(folder / 'weights.pth', Path(sys.argv[1], 'mark'))\n"
        "    try:\n        read_tensors(folder / 'weights.pth')\n"
        "    except ValueError:\n        continue\n"
        "    sys.exit(name)\n"
        "status = Path('/proc/self/status').read_text()\n"  # getrusage counts the parent's too
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1000)\n"
    )
    done = run(
        [sys.executable, str(program), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1000  # megabytes, with torch


def test_a_pickled_module_is_read_as_data(tmp_path):
    """GNM and ViNT were released so."""
    torch.save({"model": torch.nn.Linear(2, 3), "epoch": 1}, tmp_path / "gnm.pth")
    opened = TorchFile(tmp_path / "gnm.pth")
    module = opened.content["model"]
    assert str(module) == "a torch.nn.modules.linear.Linear"
    weight = module.state["_parameters"]["weight"]
    assert isinstance(weight, StoredTensor)
    opened.check(weight)
    assert opened.tensor(weight).shape == (3, 2)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float64"])
def test_tensors_come_as_torch_reads_them(tmp_path, zipped, dtype):
    base = torch.arange(24).reshape(4, 6).remainder(2).to(getattr(torch, dtype))
    saved = {"whole": base, "turned": base.T, "part": base[1:3, ::2], "none": base[:0]}
    saved |= {"one": base[0, 0], "parameter": torch.nn.Parameter(base.float())}
    torch.save(saved, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    expected = torch.load(tmp_path / "a.pth", weights_only=True)
    found = read_tensors(tmp_path / "a.pth")
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert found[name].stride() == value.stride()
        assert torch.equal(found[name], value.detach())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_trainers_save_is_read(tmp_path, zipped, protocol):
    module = torch.nn.DataParallel(torch.nn.Linear(3, 2))
    state = module.state_dict()  # with _metadata
    state["shared"] = state["module.weight"][0]
    state["expanded"] = torch.ones(1, 3).expand(4, 3)
    kept = {
        "state_dict": state,
        "epoch": np.float64(3),
        "seen": torch.Size([1]),
        "best": np.ones(2),
    }
    kept |= {"args": argparse.Namespace(lr=1.0), "complex": 1j, "steps": defaultdict(list, a=[1])}
    kept |= {"optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}}
    how = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    torch.save(kept, tmp_path / "a.pth", **how)
    found = read_tensors(tmp_path / "a.pth")
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"])
def test_numbers_of_new_kinds_are_read(tmp_path, dtype):
    value = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype))
    torch.save({"weight": value}, tmp_path / "a.pth")
    found = read_tensors(tmp_path / "a.pth")["weight"]
    assert found.dtype == value.dtype
    assert found.view(torch.uint8).tolist() == value.view(torch.uint8).tolist()


def test_safetensors_of_all_kinds_are_read(tmp_path):
    weights = {str(i): torch.ones(1) for i in range(2000)}
    weights |= {
        "none": torch.empty(0, 3),
        "scalar": torch.tensor(1),
        "half": torch.ones(2).bfloat16(),
    }
    weights |= {"float8": torch.ones(4).to(torch.float8_e4m3fn), "complex": torch.ones(2) * 1j}
    for metadata in (None, {}, {"format": "pt", "by": "it"}):
        save_file(weights, tmp_path / "a.safetensors", metadata=metadata)
        assert read_tensors(tmp_path / "a.safetensors").keys() == weights.keys()


def test_a_link_into_the_cache_of_the_hub_is_read(tmp_path):
    save_file(dict(WEIGHTS), tmp_path / "blob")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to("../blob")
    assert_weights(read_tensors(tmp_path / "snapshot" / "model.safetensors"))
