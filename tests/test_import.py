"""`import internnav_hf` is light, and enough for transformers' Auto classes to know our models."""

import copy
import json
import pickle
import sys

import pytest

import internnav_hf
from internnav_hf.catalog import LazyClass
from tests.processes import run
from tests.tiny.system2 import tiny_processor, tiny_system2

HEAVY = [
    *("datasets", "diffusers", "peft", "deepspeed", "trimesh", "embreex", "matplotlib"),
    *("gymnasium", "skimage", "imageio", "scipy", "tensorboard"),
    *("transformers.modeling_utils", "transformers.trainer"),
]


def run_python(code: str) -> list:
    """What `code` prints as its last line, as JSON, in a fresh interpreter."""
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint")
    tiny_system2().save_pretrained(path)
    tiny_processor().save_pretrained(path)
    return path


OPENS = """
import json, sys
model = AutoModel.from_pretrained({path!r})
again = {auto_class}.from_config(model.config)
processor = AutoProcessor.from_pretrained({path!r})
opened = [type(thing).__name__ for thing in (model.config, model, again, processor)]
print(json.dumps([opened, modules]))
"""
OPENED = ["System2Config", "System2Model", "System2Model", "System2Processor"]


def test_import_leaves_heavy_modules_alone_and_teaches_auto_classes(checkpoint):
    first = """
import sys
import internnav_hf
modules = list(sys.modules)
from transformers import AutoModel, AutoProcessor
"""
    opens = OPENS.format(path=str(checkpoint), auto_class="AutoModel")
    opened, modules = run_python(first + opens)
    assert opened == OPENED
    assert not set(HEAVY) & set(modules)


def test_auto_classes_that_are_imported_before_ours_learn_our_models_too(checkpoint):
    last = """
import transformers
from transformers import AutoModel, AutoProcessor
import internnav_hf
modules = []
"""
    auto_class = "transformers.AutoModelForImageTextToText"
    opened, _ = run_python(last + OPENS.format(path=str(checkpoint), auto_class=auto_class))
    assert opened == OPENED


def test_every_public_name_resolves():
    for name in internnav_hf.__all__:
        assert getattr(internnav_hf, name).__name__ == name
        assert name in dir(internnav_hf)
    for name in internnav_hf._SUBMODULES:
        assert getattr(internnav_hf, name).__name__ == f"internnav_hf.{name}"


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Sytem2Model"):
        internnav_hf.Sytem2Model  # noqa: B018


def test_a_lazy_class_passes_for_the_class_it_stands_for():
    model = tiny_system2()
    lazy = LazyClass(
        "internnav_hf.models.system2.model", "System2Model", internnav_hf.System2Config
    )
    assert isinstance(model, lazy)
    assert not isinstance("model", lazy)
    assert issubclass(type(model), lazy)
    assert lazy.main_input_name == type(model).main_input_name
    assert type(lazy(model.config)) is type(model)
    for twin in (copy.deepcopy(lazy), pickle.loads(pickle.dumps(lazy))):
        assert twin.__dict__ == lazy.__dict__
    with pytest.raises(AttributeError, match="no_such_name"):
        lazy.no_such_name  # noqa: B018
