import json
from dataclasses import dataclass, field

import pytest
import torch

from internnav_hf.arguments.training import NavTrainingArguments, parse_arguments, run_recipe
from internnav_hf.data.formats.vln_ce.names import parse_dataset_names


@dataclass
class Data:
    data_root: str = field(metadata={"help": "where"})
    sizes: list[int] = field(default_factory=lambda: [384, 384])
    rate: float = 2e-5
    augment: bool = True


def parse(*arguments):
    return parse_arguments((Data, NavTrainingArguments), ["--use_cpu", *arguments])


def write(path, text):
    path.write_text(text)
    return str(path)


def parse_file(path, text, *arguments):
    return parse_arguments((Data, NavTrainingArguments), [write(path, text), *arguments])


def test_a_file_gives_values_and_the_command_line_has_the_last_word(tmp_path):
    text = """
        data_root: somewhere
        sizes: [56, 28]
        rate: 1e-3
        augment: false
        use_cpu: true
        max_steps: 5
        eval_steps: null
        module_learning_rates: {goal_head: 1.0e-4}
    """
    data, training = parse_file(
        tmp_path / "run.yaml", text, "--max_steps", "2", "--sizes", "8", "9"
    )
    assert data == Data("somewhere", [8, 9], 1e-3, False)
    assert training.max_steps == 2
    assert training.module_learning_rates == {"goal_head": 1e-4}
    data, training = parse_file(tmp_path / "run.yaml", text)
    assert data.sizes == [56, 28]
    assert training.max_steps == 5


def test_an_unknown_field_of_a_file_names_the_file_and_the_nearest_field(tmp_path):
    with pytest.raises(
        ValueError, match=r"run\.yaml: unknown field 'learning_rat'.*'learning_rate'"
    ):
        parse_file(tmp_path / "run.yaml", "data_root: here\nlearning_rat: 1")


def test_an_unknown_option_names_the_nearest_field():
    with pytest.raises(ValueError, match="Command line: unknown field 'data-rooot'.*'data_root'"):
        parse("--data_root", "here", "--data-rooot=there")


def test_options_are_not_abbreviated():
    with pytest.raises(ValueError, match="unknown field 'learning'"):
        parse("--data_root", "here", "--learning", "1")


@pytest.mark.parametrize("text", ["- a\n- b", "just words"])
def test_a_file_that_is_no_mapping_is_one_clear_error(tmp_path, text):
    with pytest.raises(ValueError, match=r"run\.yaml: expected one `field: value` per line"):
        parse_file(tmp_path / "run.yaml", text)


def test_a_missing_file_is_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        parse_arguments((Data,), [str(tmp_path / "none.yaml")])


def test_a_value_of_the_wrong_type_names_its_option():
    with pytest.raises(ValueError, match="Command line: argument --rate: invalid float value: 'f"):
        parse("--data_root", "here", "--rate", "fast")


def test_learning_rates_by_module_must_be_a_mapping():
    with pytest.raises(ValueError, match="expected a JSON mapping, found 'head=1e-3'"):
        parse("--data_root", "here", "--module_learning_rates", "head=1e-3")
    assert parse("--data_root", "here")[1].rates_by_module == {}


def test_on_the_cpu_training_is_in_float32():
    _, training = parse("--data_root", "here", "--bf16", "true")
    assert not training.bf16
    assert training.device.type == "cpu"


@pytest.mark.parametrize(
    ("visible", "launched", "message"),
    [
        (2, {"LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "8"}, "8 processes.*2 GPU.*--num_processes 2"),
        (4, {}, "4 GPUs are visible to one process.*CUDA_VISIBLE_DEVICES=0"),
    ],
)
def test_a_wrong_number_of_gpus_is_one_clear_error(monkeypatch, visible, launched, message):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: visible)
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        NavTrainingArguments(output_dir="unused")


def test_a_schedule_over_fewer_steps_must_stay_where_it_ends():
    options = {"output_dir": "unused", "use_cpu": True, "lr_scheduler_steps": 10}
    assert NavTrainingArguments(**options).lr_scheduler_steps == 10
    with pytest.raises(ValueError, match="lr_scheduler_type 'cosine', expected linear or poly"):
        NavTrainingArguments(lr_scheduler_type="cosine", **options)
    with pytest.raises(ValueError, match="lr_scheduler_steps: found 0"):
        NavTrainingArguments(**options | {"lr_scheduler_steps": 0})


def test_an_option_that_would_do_nothing_is_refused():
    with pytest.raises(ValueError, match="use_liger_kernel: found True. It would do nothing"):
        NavTrainingArguments(output_dir="unused", use_cpu=True, use_liger_kernel=True)


def test_a_recipe_ends_with_one_line_where_something_is_wrong(monkeypatch):
    def main(data, training):
        parse_dataset_names(data.data_root)

    monkeypatch.setattr("sys.argv", ["recipes/train_it.py", "--data_root", "nowhere", "--use_cpu"])
    with pytest.raises(SystemExit) as exit_:
        run_recipe(main, (Data, NavTrainingArguments), "What it does.")
    assert exit_.value.code.startswith("train_it: ")
    assert "nowhere" in exit_.value.code
    with pytest.raises(json.JSONDecodeError):  # not ours: with its traceback
        run_recipe(lambda *_: json.loads("x"), (Data, NavTrainingArguments), "What it does.")
    monkeypatch.setattr("sys.argv", ["recipes/train_it.py", "--data_rot=x"])
    with pytest.raises(SystemExit):
        run_recipe(main, (Data, NavTrainingArguments), "What it does.")


@pytest.mark.parametrize("below", ["", "model"])
def test_a_file_is_no_folder_to_write_to(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^output_dir: found .*file is a file; expected a folder"):
        parse("--data_root", "here", "--output_dir", str(tmp_path / "file" / below))
