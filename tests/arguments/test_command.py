"""What a card tells of the command line: no secret, no path of the machine, all else as it was."""

import shlex

import pytest

from internnav_hf.arguments.command import hide_secrets, publishable, without_paths

TOKEN = "hf_" + "S" * 30


@pytest.mark.parametrize(
    "arguments",
    [
        [f"--hub_token={TOKEN}"],
        ["--hub_token", TOKEN],
        ["--hub-token", "short"],
        [f"--run_name={TOKEN}"],
        ["--wandb_api_key=0123456789abcdef0123456789abcdef01234567"],
        ['--accelerator_config={"api_key": "abcdefgh"}'],
        ["--data_root", "https://ann:hunter22@host/data"],
        ["--vlm=https://host/model?token=abcdefgh&x=1"],
        ["--note", "from-the-environment"],
        ["--password=p"],
    ],
)
def test_no_secret_is_told(arguments):
    secrets = [TOKEN, "short", "0123456789abcdef", "abcdefgh", "hunter22", "environment", "=p"]
    environ = {"WANDB_API_KEY": "from-the-environment", "HOME": "/somewhere"}
    told = publishable(["train.py", *arguments], environ)
    assert not [secret for secret in secrets if secret in told], told


def test_options_that_only_sound_like_secrets_are_told():
    line = ["recipes/train_system2.py", "--max_new_tokens=128", "--keyframes", "3"]
    line += ["--include_num_input_tokens_seen=no", "--tokenizer", "words", "--learning_rate=1e-4"]
    assert publishable(line, {}) == shlex.join(line)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/data/ann/vln_ce", "vln_ce"),
        ("~/DATA/vln_ce/", "vln_ce"),
        ("../../ann/runs/x", "x"),
        (r"C:\Users\ann\x", "x"),
        ("/data/ann smith/vln_ce", "vln_ce"),
        ("/a/b,/c/d", "b,d"),
        ('{"path": "/a/b/c"}', '{"path": "c"}'),
        ("file:///a/b", "b"),
        ("outputs/train", "outputs/train"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("https://host/a/b", "https://host/a/b"),
        ("1e-5", "1e-5"),
    ],
)
def test_paths_of_the_machine_become_names(text, told):
    assert without_paths(text) == told


def test_the_program_is_told_as_from_the_root():
    assert publishable(["/data/ann/repo/recipes/train_vln.py"], {}) == "recipes/train_vln.py"


def test_trackers_get_the_arguments_as_they_are_but_for_secrets():
    given = ["--hub_token", TOKEN, f"--hub_token={TOKEN}", "--data_root", "/data/ann"]
    assert hide_secrets(given) == [
        "--hub_token",
        "***",
        "--hub_token=***",
        "--data_root",
        "/data/ann",
    ]
