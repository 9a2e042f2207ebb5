"""State dicts in all the forms in which they were published; a pickled module stays data."""

import sys
import types

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.weights.inert_pickle import read_tensors
from internnav_hf.weights.pickled_data import Name, Thing
from internnav_hf.weights.pickled_modules import state_dict_of

NETWORK = '''
import torch
from torch import nn


class Network(nn.Module):
    """Of another library."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.register_buffer("kept", torch.ones(2))
        self.register_buffer("dropped", torch.ones(2), persistent=False)
        self.register_parameter("none", None)
        self.act = nn.ReLU()
'''


@pytest.fixture
def network(monkeypatch):
    module = types.ModuleType("another_library")
    exec(NETWORK, module.__dict__)
    monkeypatch.setitem(sys.modules, "another_library", module)
    module.Network.__module__ = "another_library"
    return module.Network()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("form", ["module", "state_dict"])
@pytest.mark.parametrize("holder", ["alone", "pair", "model"])
def test_every_form_gives_the_state_dict(tmp_path, monkeypatch, network, form, holder, zipped):
    expected, file = network.state_dict(), tmp_path / "net.pt"
    content = network if form == "module" else expected
    content = {
        "alone": content,
        "pair": (content, 0.25),
        "model": {"epoch": 1, "model": content, "optimizer": object()},
    }[holder]
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "another_library")
    found = read_tensors(file)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_model_of_several_gpus_keeps_its_prefix(tmp_path, network):
    torch.save(torch.nn.DataParallel(network), tmp_path / "net.pt")
    found = read_tensors(tmp_path / "net.pt")
    assert_close(found["module.layers.0.weight"], network.layers[0].weight.detach())


def test_a_module_that_holds_itself_a_thousandfold_is_refused():
    module = Thing(Name("a", "Module"))
    module.state = {"_parameters": {}, "_buffers": {}, "_modules": {"a": module, "b": module}}
    with pytest.raises(ValueError, match="its module has more than 100000 tensors"):
        state_dict_of(module)


def test_what_holds_no_tensors_stays_what_it_is():
    for content in ([1], {"a": 1}, (1, 2, 3), Thing(Name("os", "mkdir"))):
        assert state_dict_of(content) is content
