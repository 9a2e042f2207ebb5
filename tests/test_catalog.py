"""One line of the catalog makes a family known: to Auto classes, names, cards and tests."""

import importlib
import inspect
import json
import sys

import pytest

import internnav_hf
from internnav_hf.catalog import FAMILIES, PACKAGE, families_of, family_of
from internnav_hf.policies import DualSystemPolicy, RDPPolicy, VLNPolicy
from internnav_hf.publishing.licences import licence_of_name
from tests.processes import run
from tests.warm import Program

RELEASED = {  # repositories on the Hub
    "System2": "InternRobotics/InternVLA-N1-System2",
    "DualSystem": "InternRobotics/InternVLA-N1-DualVLN",
    "RDP": "InternRobotics/VLN-PE",
}

MADE_UP = {
    "models/toy/__init__.py": '''"""A made-up family."""

from internnav_hf.catalog import exports

__getattr__ = exports(__name__)
''',
    "models/toy/config.py": '''"""Its configuration."""

from transformers import PreTrainedConfig


class ToyConfig(PreTrainedConfig):
    """One size."""

    model_type = "internnav_toy"
    size: int = 2
''',
    "models/toy/model.py": '''"""Its network."""

import torch
from transformers import PreTrainedModel

from internnav_hf.models.toy.config import ToyConfig


class ToyModel(PreTrainedModel):
    """One layer."""

    config_class = ToyConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(config.size, 3)
        self.post_init()
''',
    "policies/toy.py": '''"""Its policy."""

from internnav_hf.models.toy.model import ToyModel


class ToyPolicy:
    """Goes nowhere."""

    def __init__(self, model, patience=1):
        self.model, self.patience = model, patience

    @classmethod
    def from_pretrained(cls, path, patience=1, **kwargs):
        """From a folder."""
        return cls(ToyModel.from_pretrained(path, **kwargs), patience)
''',
}
USE = """
import json, sys
import internnav_hf
from internnav_hf import catalog, models, policies

root = sys.argv[1]
models.__path__.append(root + "/models")
policies.__path__.append(root + "/policies")
catalog.FAMILIES += (catalog.Family("Toy", "toy", benchmark="visual_navigation"),)
catalog.register()

from transformers import AutoConfig, AutoModel
made = AutoModel.from_config(AutoConfig.for_model("internnav_toy"))
made.save_pretrained(root + "/saved")
opened = AutoModel.from_pretrained(root + "/saved")
policy = internnav_hf.load_policy(root + "/saved", patience=2)
assert policy.patience == 2
listed = [family.name for family in catalog.FAMILIES if family.benchmark]  # as contract suites do
names = internnav_hf.ToyConfig, internnav_hf.ToyModel, internnav_hf.ToyPolicy, models.toy.ToyModel
found = [type(policy.model).__name__, type(opened).__name__, *(name.__name__ for name in names)]
print(json.dumps([listed[-1], *found]))
"""


def test_a_new_family_is_one_line(tmp_path):
    for name, text in MADE_UP.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "use.py").write_text(USE)
    done = run([sys.executable, str(tmp_path / "use.py"), str(tmp_path)], start=Program)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found[:2] == ["Toy", "ToyModel"]
    assert found[2:] == ["ToyModel", "ToyConfig", "ToyModel", "ToyPolicy", "ToyModel"]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_part_of_a_family_is_where_its_line_says(family):
    for part in family.places():
        found = family.load(part)
        assert found is None or found.__module__.startswith(f"{PACKAGE}.")
    assert family.load("model").config_class is family.load("config")
    assert family_of(family.model_type) is family
    assert (family.load("policy") is None) == (family.benchmark is None)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_folder_of_a_family_has_its_public_names(family):
    """PEFT names the folder, and looks the class up there."""
    folder = importlib.import_module(f"{PACKAGE}.models.{family.folder}")
    for part in ("config", "model"):
        assert getattr(folder, family.load(part).__name__) is family.load(part)
    with pytest.raises(AttributeError, match="no attribute 'CameraSpec'"):
        folder.CameraSpec  # noqa: B018


def test_policies_know_their_families():
    names = {p: [f.name for f in families_of(p)] for p in (DualSystemPolicy, RDPPolicy, VLNPolicy)}
    assert list(names.values()) == [["DualSystem"], ["RDP"], ["Seq2Seq", "CMA"]]

    class Mine(RDPPolicy):
        """A user's."""

    assert [family.name for family in families_of(Mine)] == ["RDP"]
    assert not families_of(dict)


@pytest.mark.parametrize(("name", "repository"), RELEASED.items())
def test_licences_are_those_of_the_released_weights(name, repository):
    licence = next(family.licence for family in FAMILIES if family.name == name)
    assert licence == licence_of_name(repository).id


def test_every_family_is_named_once():
    source = inspect.getsource(internnav_hf)
    assert not [family.name for family in FAMILIES if family.name in source]
