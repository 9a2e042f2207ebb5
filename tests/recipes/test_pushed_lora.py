"""A LoRA of System2 is trained on a base of the Hub, pushed as adapter and merged, and opened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from internnav_hf import System2Model, System2Policy
from tests.data.vln_ce import straight_episode, write_scene
from tests.hub_server import TOKEN, Hub, go_online, serve
from tests.processes import run
from tests.tiny.system2 import tiny_processor, tiny_system2
from tests.warm import Program

ROOT = Path(__file__).parents[2]
SECRETS = (TOKEN, "hf_" + "b" * 34, "key-of-the-environment")
RESEARCH = "---\nlicense: other\nlicense_name: qwen-research\n---\n# A base\n"
# For a process that has read the variables of the Hub's library before.
ONLINE = """
import os, runpy, sys
from pathlib import Path
from types import SimpleNamespace
import pytest
from tests.hub_server import go_online
url, cache, *sys.argv = sys.argv[1:]
go_online(pytest.MonkeyPatch(), SimpleNamespace(url=url), Path(cache))
del os.environ["HF_TOKEN"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serve() as running:
        go_online(monkeypatch, running, tmp_path / "hub-cache")
        folder = tmp_path / "base"
        tiny_system2(use_pixel_goal_head=False).save_pretrained(folder)
        tiny_processor().save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        running.repositories["me/base"] = files | {"README.md": RESEARCH.encode()}
        yield running


def train(hub: Hub, tmp_path: Path, name: str, is_warm: bool = False, **changes) -> str:
    """As a user does, with a token in the file and secrets all around; what it told."""
    write_scene(tmp_path / "ann" / "mine" / "a", [straight_episode(0)], size=(112, 84))
    values = {
        "data_root": str(tmp_path / "ann"),
        "datasets": "mine_125cm_0_30",
        "vlm": "me/base",
        "cache_dir": str(tmp_path / "cache"),
        "hub_token": TOKEN,
        "push_to_hub": True,
        "hub_model_id": f"me/{name}",
        "lora_rank": 2,
        "max_steps": 2,
        "save_steps": 1,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "report_to": "none",
        "dataloader_num_workers": 0,
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values | changes))
    command = [sys.executable, "recipes/train_system2.py", str(tmp_path / "run.yaml")]
    command += [f"--output_dir={tmp_path / name}", f"--run_name=run-{SECRETS[1]}"]
    environ = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "WANDB_API_KEY": SECRETS[2],
        "PYTHONPATH": str(ROOT),
    }
    if is_warm:
        (tmp_path / "online.py").write_text(ONLINE)
        command[1:1] = [str(tmp_path / "online.py"), hub.url, str(tmp_path / "hf")]
    start = Program if is_warm else subprocess.Popen
    result = run(command, cwd=ROOT, env=os.environ | environ, start=start)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout + result.stderr


def check_nothing_leaks(hub: Hub, name: str, told: str, tmp_path: Path) -> None:
    files = hub.files(name)
    for path, content in files.items():
        assert not [one for one in (*SECRETS, str(tmp_path)) if one.encode() in content], path
    assert not [secret for secret in SECRETS if secret in told]
    assert not set(files) & {"training_args.bin", "run.json", "optimizer.pt", "trainer_state.json"}


@pytest.mark.slow
def test_adapter_and_merged_model_open_from_the_hub_alike(hub, tmp_path):
    told = train(hub, tmp_path, "adapter", push_adapter=True, license="other")
    check_nothing_leaks(hub, "me/adapter", told, tmp_path)
    files = hub.files("me/adapter")
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "me/base"
    head = ModelCard(files["README.md"].decode()).data
    assert (head.license, head.license_name) == ("other", "qwen-research")
    assert head.base_model == ["me/base"]
    assert head.base_model_relation == "adapter"
    opened = System2Policy.from_pretrained("me/adapter").model.state_dict()
    base = System2Model.from_pretrained("me/base").state_dict()
    assert any(not torch.equal(opened[name], base[name]) for name in base)

    told = train(hub, tmp_path, "merged", is_warm=True, license="other")
    check_nothing_leaks(hub, "me/merged", told, tmp_path)
    files = hub.files("me/merged")
    assert "model.safetensors" in files
    assert not [name for name in files if name.startswith("adapter")]
    assert ModelCard(files["README.md"].decode()).data.base_model_relation == "finetune"
    merged = System2Policy.from_pretrained("me/merged").model.state_dict()
    assert all(torch.allclose(merged[name], opened[name], atol=1e-6) for name in merged)
