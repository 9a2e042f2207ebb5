"""Checkpoints saved before families became folders open as they did, with the losses they had.

Each is the model of that name in `CASES`; `losses.json` holds the loss on its batch. They are never
written anew: what no longer opens here no longer opens for those who have such files.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoProcessor

from internnav_hf.models.system2.model import System2Model
from internnav_hf.models.system2.processor import System2Processor
from internnav_hf.models.vln.processor import VLNProcessor
from tests.tiny.cases import CASES
from tests.tiny.system2 import tiny_processor
from tests.tiny.vln_processor import tiny_vln_processor

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
LOSSES = json.loads((CHECKPOINTS / "losses.json").read_text())
ADAPTER = "system2-lora"
MODELS = [name for name in LOSSES if name != ADAPTER]


def assert_loss(model, name: str) -> None:
    batch = CASES[name.removesuffix("-lora")].batch(model)
    with torch.no_grad():
        assert model(**batch).loss.item() == pytest.approx(LOSSES[name], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_opens_by_its_class_and_by_automodel(name):
    expected = type(CASES[name].make())
    opened = expected.from_pretrained(CHECKPOINTS / name)
    assert type(AutoModel.from_pretrained(CHECKPOINTS / name)) is expected
    assert_loss(opened, name)


@pytest.mark.parametrize(
    ("name", "expected", "make"),
    [
        ("system2", System2Processor, tiny_processor),
        ("seq2seq", VLNProcessor, tiny_vln_processor),
    ],
)
def test_a_processor_opens_by_its_class_and_by_autoprocessor(name, expected, make):
    for opened_by in (expected, AutoProcessor):
        opened = opened_by.from_pretrained(CHECKPOINTS / name)
        assert type(opened) is expected
        assert opened.to_dict() == make().to_dict()
        assert opened.tokenizer.get_vocab() == make().tokenizer.get_vocab()


@pytest.mark.parametrize("opened_by", [System2Model, AutoModel])
def test_an_adapter_opens_on_its_base(tmp_path, opened_by):
    folder = shutil.copytree(CHECKPOINTS / ADAPTER, tmp_path / "adapter")
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(CHECKPOINTS / "system2")
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    assert_loss(opened_by.from_pretrained(folder), ADAPTER)
