"""What System2's recipe alone does: LoRA, rates of its parts, its base model."""

import pytest
from safetensors.torch import load_file, save_file

from internnav_hf import System2Model, System2Processor
from internnav_hf.arguments.training import parse_arguments
from internnav_hf.data import System2Dataset
from tests.recipes.launch import history, parameter_groups
from tests.recipes.system2 import KINDS, options, recipe, write_base
from tests.tiny.system2 import tiny_processor, tiny_system2


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("system2"))


def train(arguments: list[str]) -> None:
    recipe.main(*parse_arguments(KINDS, arguments))


def test_it_learns(base, tmp_path):
    train(options(base, tmp_path, max_steps=6))
    losses = history(tmp_path, "loss")
    assert losses[-1] < losses[0]


def test_packs_train_on_every_sample_and_one_that_fits_in_none_is_named(base, tmp_path):
    packed = {"max_steps": None, "num_train_epochs": 1, "per_device_train_batch_size": 1}
    train(options(base, tmp_path / "a", packing_length=600, **packed))
    dataset = System2Dataset(base, "r2r_125cm_0_30", tiny_processor(), cache_dir=base / "cache")
    num_packs = len(history(tmp_path / "a", "loss"))
    assert dataset.lengths.sum() / 600 <= num_packs < len(dataset) / 2
    message = rf"found 100, but {len(dataset)} of {len(dataset)} samples are longer, sample \d+ \("
    with pytest.raises(ValueError, match=message):
        train(options(base, tmp_path / "b", packing_length=100, **packed))


def test_samples_of_about_one_length_are_drawn_together(base, tmp_path):
    grouped = {"train_sampling_strategy": "group_by_length", "max_steps": 1}
    train(options(base, tmp_path, **grouped))


def test_lora_trains_adapters_and_saves_a_whole_model(base, tmp_path):
    train(options(base, tmp_path, lora_rank=2, max_steps=2, save_steps=1))
    assert (tmp_path / "checkpoint-1" / "adapter_model.safetensors").is_file()
    table = (tmp_path / "parameter_groups.txt").read_text()
    assert "frozen" in table
    again = options(base, tmp_path / "again", lora_rank=2, max_steps=2, save_steps=2)
    train([*again, f"--resume_from_checkpoint={tmp_path / 'checkpoint-1'}"])
    model = System2Model.from_pretrained(tmp_path)
    resumed = System2Model.from_pretrained(tmp_path / "again").state_dict()
    assert all(value.equal(resumed[name]) for name, value in model.state_dict().items())
    start = System2Model.from_pretrained(base / "vlm")
    moved = "vlm.model.language_model.layers.0.self_attn.q_proj.weight"
    stayed = "vlm.model.visual.merger.mlp.0.weight"
    assert not model.state_dict()[moved].equal(start.state_dict()[moved])
    assert model.state_dict()[stayed].equal(start.state_dict()[stayed])


@pytest.mark.parametrize(("published", "rate"), [("documented", "5e-06"), ("executed", "0.001")])
def test_documented_and_executed_differ_in_the_vision_towers_rate(base, tmp_path, published, rate):
    arguments = options(base, tmp_path, max_steps=1, published=published, tune_merger=False)
    train([option for option in arguments if "vision_tower" not in option])
    groups = parameter_groups(tmp_path)
    assert groups["vlm.model.visual"] == {rate}
    assert groups["vlm.model.visual.merger"] == {"frozen"}


# bad input: one clear message, before anything is written


def test_an_output_folder_in_use_is_refused(base, tmp_path):
    train(options(base, tmp_path, max_steps=1, save_steps=1))
    with pytest.raises(ValueError, match="checkpoint-1.*--resume_from_checkpoint true"):
        train(options(base, tmp_path))


def test_a_checkpoint_without_a_key_is_refused(base, tmp_path):
    System2Processor.from_pretrained(base / "vlm").save_pretrained(tmp_path / "broken")
    tiny_system2(use_pixel_goal_head=False).save_vlm(tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    key = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
    save_file(
        {k: v for k, v in weights.items() if k != key},
        tmp_path / "broken" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(
        ValueError, match=r"broken does not fit.*lacks 1 key.*layers\.1\.mlp\.up_proj"
    ):
        train(options(base, tmp_path / "run", vlm=tmp_path / "broken"))


def test_a_file_with_an_unknown_field_is_refused(base, tmp_path):
    (tmp_path / "run.yaml").write_text("pixel_goal_los_weight: 1\n")
    with pytest.raises(ValueError, match=r"run\.yaml.*did you mean 'pixel_goal_loss_weight'"):
        train([str(tmp_path / "run.yaml"), *options(base, tmp_path)])


def test_without_options_the_recipe_is_the_published_one():
    model_args, data_args, args = parse_arguments(KINDS, ["--data_root=d", "--use_cpu"])
    assert model_args.vlm == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert data_args.datasets.count(",") == 7
    assert (args.learning_rate, args.num_train_epochs, args.max_grad_norm) == (2e-5, 2, 1)
    assert (args.weight_decay, args.save_steps, args.save_total_limit) == (0, 5000, 5)
    assert args.lr_scheduler_type == "cosine"
    assert args.get_warmup_steps(10_000) == 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": "r2x_125cm_0_30"}, "Unknown dataset 'r2x_125cm_0_30'.*Did you mean 'r2r'"),
        ({"eval_datasets": "r2r_125cm_0_99"}, "no images of camera"),
        (
            {"vlm": "outputs/no/such/folder"},
            "--vlm outputs.*: there is no such folder",
        ),
        ({"load_best_model_at_end": True, "save_steps": 5000}, "nothing is held out"),
    ],
)
def test_what_the_user_got_wrong_comes_before_any_model(base, tmp_path, changes, message):
    changes = {"vlm": "nobody/has-this-model", **changes}
    with pytest.raises(ValueError, match=message):
        train(options(base, tmp_path, **changes))


def test_a_typo_in_the_root_of_the_data_is_told(base, tmp_path):
    (tmp_path / "traj_data").mkdir()
    changes = {"data_root": tmp_path / "traj_dat", "vlm": "nobody/has-this-model"}
    with pytest.raises(ValueError, match=r"no such folder.*Did you mean '.*traj_data'"):
        train(options(base, tmp_path / "out", **changes))
