"""A small `vln_pe` dataset and sizes of tiny models, for the recipe of Seq2Seq, CMA and RDP."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from internnav_hf.camera import CameraSpec
from recipes import train_vln as recipe
from tests.data.vln_pe import SIZE, write_root
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
    values = {
        "model": model,
        "data_root": [base / "data"],
        "scans": [SCANS[0]],
        "model_config": base / f"{model.removesuffix('_plus')}.yaml",
        "tokenizer": "words",
        "output_dir": output_dir,
        "cache_dir": base / "cache",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 2,
        "dataloader_num_workers": 0,
    }
    line = []
    for name, value in (values | changes).items():
        if isinstance(value, list):
            line += [f"--{name}", *map(str, value)]
        elif value is not None:
            line.append(f"--{name}={value}")
    return line
