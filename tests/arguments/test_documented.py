import pytest

from internnav_hf.arguments.documented import DOCUMENTED, hint_of
from internnav_hf.arguments.training import NavTrainingArguments, parse_arguments
from tests.training.arguments import Data


@pytest.mark.parametrize(
    ("documented", "hint"),
    [
        ("batch_size", "per_device_train_batch_size"),
        ("epochs", "num_train_epochs"),
        ("lr", "learning_rate"),
        ("num-workers", "dataloader_num_workers"),
        ("dataset_navdp", "data_root"),
        ("image_size", "a field of the file that --model_config names"),
        ("memory_size", "num_memory_frames"),
        ("predict_size", "action_horizon"),
        ("temporal_depth", "num_hidden_layers"),
        ("token_dim", "hidden_size"),
        ("dropout", "it is 'dropout'"),
        ("finetune", "train_rgb_encoder"),
        ("nproc_per_node", "accelerate launch --num_processes"),
    ],
)
def test_documented_names_get_the_right_hint(tmp_path, documented, hint):
    kinds = (Data, NavTrainingArguments)
    with pytest.raises(ValueError, match=f"unknown field '{documented}'.*{hint}"):
        parse_arguments(kinds, ["--data_root", "d", f"--{documented}", "1"])
    (tmp_path / "run.yaml").write_text(f"data_root: d\n{documented}: 1")
    with pytest.raises(ValueError, match=f"unknown field '{documented}'.*{hint}"):
        parse_arguments(kinds, [str(tmp_path / "run.yaml")])


def test_a_hint_names_only_what_the_recipe_has():
    assert hint_of("batch_size", {"data_root"}) is None
    assert hint_of("data_root", {"data_root"}) is None
    assert "lr" in DOCUMENTED
