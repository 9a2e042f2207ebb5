import json
import random

import numpy as np
import pytest
import torch

from internnav_hf.training.saving.moments import (
    PROGRESS_FILE,
    generator_states,
    plain,
    read_progress,
    set_generators,
)


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_generators_go_on_where_they_were():
    states = generator_states()
    drawn = draw()
    set_generators(states)
    assert draw() == drawn


def test_numbers_survive_json_exactly():
    values = {"loss": torch.rand(()), "sums": {"a": torch.rand(2)}, "rate": 0.1 + 0.2}
    again = json.loads(json.dumps(plain(values)))
    assert torch.tensor(again["loss"]).equal(values["loss"])
    assert torch.tensor(again["sums"]["a"]).equal(values["sums"]["a"])
    assert again["rate"] == values["rate"]


def test_each_process_reads_its_own_and_none_of_another_number(tmp_path, monkeypatch):
    assert read_progress(str(tmp_path), 0) is None
    (tmp_path / PROGRESS_FILE).write_text(json.dumps([{"a": 1}, {"a": 2}]))
    assert read_progress(str(tmp_path), 0) is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert read_progress(str(tmp_path), 1) == {"a": 2}


@pytest.mark.parametrize("text", ["{}", "[1]", "[{", "[null]", "3"])
def test_what_is_damaged_is_told_and_left_out(tmp_path, caplog, text):
    (tmp_path / PROGRESS_FILE).write_text(text)
    assert read_progress(str(tmp_path), 0) is None
    assert "is damaged" in caplog.text or text == "{}"
