"""A small `vln_pe` dataset and sizes of tiny models, for the recipe of Seq2Seq, CMA and RDP."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from internnav_hf.camera import CameraSpec
from internnav_hf.policies import load_vln_policy
from recipes import train_vln as recipe
from tests.data.vln_pe import SIZE, write_root
from tests.recipes.launch import TINY, command_line
from tests.tiny import rdp as tiny_rdp
from tests.tiny import vln as tiny_vln

KINDS = (
    recipe.StartArguments,
    recipe.VLNDataArguments,
    recipe.DaggerArguments,
    recipe.VLNTrainingArguments,
)
MODELS = ("seq2seq", "cma", "rdp")
LOSSES = {
    "seq2seq": ("action_loss", "progress_loss"),
    "cma": ("action_loss", "progress_loss"),
    "rdp": ("action_loss", "progress_loss", "stop_loss"),
}
SCANS = ("simulated_train", "simulated_val_unseen")
CAMERA = CameraSpec(width=SIZE[0], height=SIZE[1])


def write_base(folder: Path) -> Path:
    """`folder`/data with two scans of two scenes with two walks, three instructions each; and
    sizes of each tiny model.
    """
    write_root(folder / "data", SCANS)
    for info in folder.glob("data/*/*/meta/info.json"):
        info.write_text(json.dumps({"camera": CAMERA.to_dict()}))
    rdp: dict[str, Any] = deepcopy(tiny_rdp.SIZES) | {"image_dropout": 0.0, "feature_dropout": 0.0}
    rdp |= {"cross_modal_dropout": 0.0, "denoiser_dropout": 0.0, "embedding_dropout": 0.0}
    rdp["text_config"] = rdp["text_config"] | {"vocab_size": 60, "max_position_embeddings": 248}
    sizes = {"seq2seq": tiny_vln.SIZES, "cma": tiny_vln.SIZES, "rdp": rdp}
    for model, fields in sizes.items():
        plain = json.loads(json.dumps(fields))  # YAML has no tuples
        (folder / f"{model}.yaml").write_text(yaml.safe_dump(plain))
    return folder


def options(base: Path, output_dir: Path, model: str = "seq2seq", **changes) -> list[str]:
    """The recipe's command line; an option that is None is left out, a list is spelt out."""
    own = {
        "model": model,
        "data_root": [base / "data"],
        "scans": [SCANS[0]],
        "model_config": base / f"{model.removesuffix('_plus')}.yaml",
        "tokenizer": "words",
        "output_dir": output_dir,
        "cache_dir": base / "cache",
    }
    return command_line(TINY | own | changes)


def check(base: Path, output_dir: Path) -> None:
    """A policy with its words opens from model and checkpoint; the card names the data."""
    for folder in (output_dir, output_dir / "checkpoint-2"):
        policy = load_vln_policy(folder)
        assert policy.camera is not None
        assert policy.processor.encode_instructions(["Walk past the chair."]).shape == (1, 4)
    assert "frozen" in (output_dir / "parameter_groups.txt").read_text()
    card = (output_dir / "README.md").read_text()
    assert f"`{SCANS[0]}`" in card
    assert "license" not in card.split("---")[1]
