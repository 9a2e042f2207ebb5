import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from internnav_hf.arguments.training import NavTrainingArguments, option, parse_arguments
from internnav_hf.data.tables import content_digest
from internnav_hf.training.saving.resume import (
    checkpoint_to_resume,
    checkpoints,
    damages,
    last_complete_checkpoint,
)
from internnav_hf.training.trainer import NavTrainer
from tests.tiny.toy_model import ToyDataset, toy_model
from tests.training.trainers import trainer


@dataclass
class Data:
    datasets: str = option("r2r", "Names.")
    num_history: int = option(8, "Past frames.")
    vlm: str = option("models/a", "Base.")
    cache_dir: str | None = option(None, "Cache.")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Checkpoints of steps 1 to 3."""
    folder = tmp_path_factory.mktemp("run")
    trainer(folder, save_strategy="steps", save_steps=1).train()
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "run"))


def arguments(folder, choice="auto", *more):
    words = [f"--output_dir={folder}", "--use_cpu", "--save_strategy=steps", "--save_steps=1"]
    if choice:
        words.append(f"--resume_from_checkpoint={choice}")
    return parse_arguments((Data, NavTrainingArguments), [*words, *more])[1]


def found(folder, *more):
    result = checkpoint_to_resume(arguments(folder, "auto", "--resume_anyway", *more))
    return result and Path(result).name


def cut(path: Path, size: int = 100):
    path.write_bytes(path.read_bytes()[:size])


DAMAGES = {
    "weights cut": lambda c: cut(c / "model.safetensors"),
    "weights gone": lambda c: (c / "model.safetensors").unlink(),
    "weights empty": lambda c: cut(c / "model.safetensors", 0),
    "weights one byte short": lambda c: cut(c / "model.safetensors", -1),
    "weights of noise": lambda c: overwrite(c / "model.safetensors"),
    "optimiser cut": lambda c: cut(c / "optimizer.pt"),
    "optimiser of noise": lambda c: overwrite(c / "optimizer.pt"),
    "optimiser gone": lambda c: (c / "optimizer.pt").unlink(),
    "scheduler empty": lambda c: cut(c / "scheduler.pt", 0),
    "optimiser of another step": lambda c: exchange(c, "optimizer.pt"),
    "scheduler of another step": lambda c: exchange(c, "scheduler.pt"),
    "weights of another step": lambda c: exchange(c, "model.safetensors"),
    "optimiser of noise in the middle": lambda c: erase(c / "optimizer.pt"),
    "state without its numbers": lambda c: (c / "trainer_state.json").write_text(
        '{"global_step": 3, "log_history": []}'
    ),
    "random numbers gone": lambda c: (c / "rng_state.pth").unlink(),
    "state cut": lambda c: cut(c / "trainer_state.json"),
    "state of another kind": lambda c: (c / "trainer_state.json").write_text("[]"),
    "state gone": lambda c: (c / "trainer_state.json").unlink(),
    "configuration of noise": lambda c: overwrite(c / "config.json"),
    "record cut": lambda c: cut(c / "run.json"),
    "progress of noise": lambda c: overwrite(c / "progress.json"),
    "shard gone": lambda c: (c / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}})
    ),
    "renamed": lambda c: c.rename(c.with_name("checkpoint-9")),
}


def exchange(checkpoint: Path, name: str):
    shutil.copy(checkpoint.with_name("checkpoint-1") / name, checkpoint / name)


def erase(path: Path):
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + b"U" * 64 + content[middle + 64 :])


def overwrite(path: Path):
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_passed_over_and_the_one_before_is_taken(folder, caplog, name):
    DAMAGES[name](folder / "checkpoint-3")
    assert Path(last_complete_checkpoint(folder)).name == "checkpoint-2"
    assert re.search(r"checkpoint-[39] was cut short: .*; the one before it is tried", caplog.text)


def test_what_was_passed_over_is_told_at_the_end_of_a_run_too(folder):
    args = arguments(folder, "auto", "--resume_anyway")
    checkpoint_to_resume(args)
    assert args.passed_over == ""
    weights = folder / "checkpoint-3" / "model.safetensors"
    (folder / "checkpoint-3" / "run.json").unlink()
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    checkpoint_to_resume(args)
    told = (
        r"checkpoint-3 was passed over \(model.safetensors .*pointer of git-lfs.* checkpoint-2\.$"
    )
    assert re.search(told, args.passed_over)


def test_damage_is_found_without_a_record_too(folder):
    (folder / "checkpoint-3" / "run.json").unlink()
    assert not list(damages(folder / "checkpoint-3"))
    cut(folder / "checkpoint-3" / "model.safetensors", -1)
    assert "model.safetensors" in next(damages(folder / "checkpoint-3"))


@pytest.mark.parametrize("name", ["checkpoint-3.bak", "checkpoint-9-best", "checkpoint-3 (copy)"])
def test_what_a_user_renamed_is_left_alone(folder, name):
    (folder / "checkpoint-3").rename(folder / name)
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-2", "checkpoint-1"]
    assert found(folder) == "checkpoint-2"


@pytest.mark.parametrize("choice", ["/nowhere/checkpoint-2", "yes", "last", "checkpoint-2"])
def test_what_is_no_folder_is_one_line(folder, choice):
    with pytest.raises(ValueError, match="there is no such folder; expected true.*auto.*false"):
        checkpoint_to_resume(arguments(folder, choice))


def test_a_folder_that_is_no_checkpoint_is_one_line(folder):
    with pytest.raises(ValueError, match=r"no trainer_state\.json\. Did you mean .*checkpoint-3\?"):
        checkpoint_to_resume(arguments(folder, folder))


@pytest.mark.parametrize("choice", ["auto", "true", "path"])
def test_a_checkpoint_without_optimiser_is_refused_unless_asked_for(folder, choice):
    for step in (1, 2):
        shutil.rmtree(folder / f"checkpoint-{step}")
    last = folder / "checkpoint-3"
    (last / "optimizer.pt").unlink()
    (last / "scheduler.pt").unlink()
    choice = last if choice == "path" else choice
    with pytest.raises(ValueError, match=r"optimizer\.pt") as told:
        checkpoint_to_resume(arguments(folder, choice))
    assert "\n" not in str(told.value)
    assert checkpoint_to_resume(arguments(folder, choice, "--resume_anyway")) == str(last)


def test_checkpoints_of_weights_alone_are_refused_by_name(tmp_path):
    trainer(tmp_path, save_strategy="steps", save_steps=1, save_only_model=True).train()
    with pytest.raises(ValueError, match="--save_only_model.*--resume_anyway true"):
        checkpoint_to_resume(arguments(tmp_path))


def test_fewer_steps_than_the_checkpoint_has_are_refused(folder):
    with pytest.raises(ValueError, match=r"--max_steps 2: .*checkpoint-3 was saved at step 3"):
        checkpoint_to_resume(arguments(folder, "auto", "--max_steps=2"))
    run = trainer(folder, max_steps=-1, num_train_epochs=0.5)
    with pytest.raises(ValueError, match="saved at step 3, but the run ends at step 2"):
        run.train(resume_from_checkpoint=str(folder / "checkpoint-3"))


# the same run

SAME = {"save_strategy": "steps", "save_steps": 1}


def go_on(folder, dataset=None, **options):
    run = trainer(folder, dataset=dataset, **SAME | {"max_steps": 4} | options)
    run.train(resume_from_checkpoint=str(folder / "checkpoint-3"))
    return run


@pytest.mark.parametrize(
    ("option", "value", "was"),
    [
        ("learning_rate", 0.1, "0.05"),
        ("seed", 3, "42"),
        ("per_device_train_batch_size", 4, "8"),
        ("gradient_accumulation_steps", 2, "1"),
        ("lr_scheduler_type", "cosine", "linear"),
        ("warmup_steps", 5, "0"),
        ("weight_decay", 0.1, "0.0"),
        ("optim", "sgd", "adamw"),
        ("max_grad_norm", 3.0, "1.0"),
        ("module_learning_rates", {"words": 0.1}, "null"),
    ],
)
def test_another_run_is_refused_in_a_table_unless_asked_for(folder, option, value, was):
    with pytest.raises(ValueError, match=rf"another run.*\n +checkpoint +now\n.*{option} +{was}"):
        go_on(folder, **{option: value})
    if option in ("weight_decay", "optim", "module_learning_rates"):  # other groups, other state
        with pytest.raises(ValueError, match=r"optimizer\.pt does not fit.*delete it"):
            go_on(folder, resume_anyway=True, **{option: value})
        (folder / "checkpoint-3" / "optimizer.pt").unlink()
    go_on(folder, resume_anyway=True, **{option: value})


def test_other_data_models_and_frozen_parts_are_refused(folder):
    with pytest.raises(ValueError, match=r"samples +32 +20"):
        go_on(folder, ToyDataset(20))
    run = trainer(folder, **SAME, max_steps=4)
    run.model.words.requires_grad_(False)
    with pytest.raises(ValueError, match="trained parameters +9, .* +7, "):
        run.train(resume_from_checkpoint=str(folder / "checkpoint-3"))
    run = trainer(folder, **SAME, max_steps=4)
    run.model.config.goal_weight = 0.5
    with pytest.raises(ValueError, match=r"model: goal_weight +1\.0 +0\.5"):
        run.train(resume_from_checkpoint=str(folder / "checkpoint-3"))


def test_what_may_differ_passes(folder, tmp_path, caplog):
    (folder / "checkpoint-3").rename(tmp_path / "elsewhere")
    run = trainer(
        tmp_path / "new",
        max_steps=5,
        logging_steps=2,
        save_strategy="no",
        dataloader_num_workers=1,
        eval_dataset=ToyDataset(4),
        eval_strategy="steps",
        eval_steps=1,
        gradient_checkpointing=False,
    )
    run.train(resume_from_checkpoint=str(tmp_path / "elsewhere"))
    assert run.state.global_step == 5
    assert "another run" not in caplog.text


def test_options_of_the_recipe_are_part_of_the_run(tmp_path):
    def args(*more, choice=None):
        more = ("--max_steps=1", "--dataloader_num_workers=0", *more)
        return arguments(tmp_path, choice, "--report_to=none", *more)

    NavTrainer(toy_model(), args(), train_dataset=ToyDataset(4)).train()
    last = checkpoint_to_resume(args(choice="auto"))
    assert Path(last).name == "checkpoint-1"
    for more in (["--vlm=elsewhere/a"], ["--cache_dir=other"], ["--output_dir", str(tmp_path)]):
        assert checkpoint_to_resume(args(*more, choice=last)) == last
    more = ["--num_history=4", "--datasets=r2r%30", "--vlm=models/b"]
    with pytest.raises(ValueError, match="num_history +8 +4") as told:
        checkpoint_to_resume(args(*more, choice=last))
    assert "r2r%30" in str(told.value)
    assert re.search(r"vlm +a +b", str(told.value))


def test_nothing_said_about_checkpoints_that_are_there_is_an_error(folder):
    with pytest.raises(ValueError, match="has checkpoints, up to checkpoint-3"):
        checkpoint_to_resume(arguments(folder, None))
    assert checkpoint_to_resume(arguments(folder / "none")) is None
    with pytest.raises(ValueError, match="has no complete checkpoint"):
        checkpoint_to_resume(arguments(folder / "none", "true"))


def test_data_are_known_by_what_they_say_not_by_where_they_lie():
    rows = {"actions": [[1, 2], [3]], "instructions": [["go"], ["stop", "now"]], "x": [1.0, 2.0]}
    table = pa.table(rows)
    halves = pa.concat_tables([table.slice(0, 1), table.slice(1, 1)])
    elsewhere = table.append_column("frames_key", pa.array(["a", "b"]))
    assert content_digest([table]) == content_digest([halves]) == content_digest([elsewhere])
    others = [
        {**rows, "actions": [[1], [2, 3]]},
        {**rows, "instructions": [["go"], ["stop", "then"]]},
        {**rows, "x": [1.0, 2.5]},
    ]
    assert len({content_digest([pa.table(other)]) for other in (rows, *others)}) == 4


@pytest.mark.parametrize("text", ["[]", "{}", '{"options": 1, "facts": {}, "files": {}}', "{"])
def test_a_record_that_says_nothing_is_refused_unless_asked_for(folder, caplog, text):
    (folder / "checkpoint-3" / "run.json").write_text(text)
    path = str(folder / "checkpoint-3")
    with pytest.raises(ValueError, match=r"run\.json (is not what a run writes|cannot be read)"):
        checkpoint_to_resume(arguments(folder, path))
    assert checkpoint_to_resume(arguments(folder, path, "--resume_anyway")) == path
    assert "is not what a run writes" in caplog.text
