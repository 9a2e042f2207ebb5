"""A model, data and collator of each family, to be evaluated. As a program, in as many processes as
share it: evaluates all of them, and toys, and writes what came out.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState

from internnav_hf.data import (
    DualSystemCollator,
    DualSystemDataset,
    NavDPCollator,
    NavDPDataset,
    System2Collator,
    System2Dataset,
    VLNCollator,
    VLNDataset,
)
from internnav_hf.models.rdp.config import RDPConfig
from internnav_hf.models.rdp.model import RDPModel
from internnav_hf.models.vln.config import Seq2SeqConfig
from internnav_hf.models.vln.seq2seq import Seq2SeqModel
from internnav_hf.training.trainer import NavTrainer, NavTrainingArguments
from internnav_hf.training.vln import StartArguments, start
from tests.data import vln_n1
from tests.recipes import dual, vln
from tests.tiny.dual_system import tiny_dual_system
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.system2 import tiny_processor, tiny_system2
from tests.training.two_processes import evaluated_and_predicted

NAMES = ("system2", "dual", "navdp", "seq2seq", "rdp")


def write_data(folder: Path) -> None:
    """What `families` reads."""
    dual.write_base(folder / "vln_ce")
    vln_n1.write_root(folder / "vln_n1")
    vln.write_base(folder / "vln_pe")


def families(folder: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    """Name, model, samples and collator of each; models are the same at every call."""
    processor, cache = tiny_processor(), folder / "cache"
    of_data = {"datasets": "r2r_125cm_0_30", "processor": processor, "cache_dir": cache}
    size = {"image_width": dual.SIZE[0], "image_height": dual.SIZE[1]}
    data = System2Dataset(folder / "vln_ce", **of_data)
    yield "system2", tiny_system2(**size), data, System2Collator(processor.pad_token_id)
    model = tiny_dual_system(**size)
    expert = model.config.action_expert_config
    sizes = {"image_size": expert.image_size, "action_horizon": expert.action_horizon}
    data = DualSystemDataset(folder / "vln_ce", num_frames=3, **sizes, **of_data)
    yield "dual", model, data, DualSystemCollator(processor.pad_token_id)
    model, config = tiny_navdp_model(), tiny_navdp_model().config
    names = ("image_size", "num_memory_frames", "action_horizon", "num_pixel_goal_channels")
    sizes = {name: getattr(config, name) for name in names}
    data = NavDPDataset(
        folder / "vln_n1", training=False, samples_per_episode=2, cache_dir=cache, **sizes
    )
    yield "navdp", model, data, NavDPCollator(config.channel_order, config.action_scale)
    for name, kind, of_kind, targets in (
        ("seq2seq", Seq2SeqModel, Seq2SeqConfig, "actions"),
        ("rdp", RDPModel, RDPConfig, "displacements"),
    ):
        path = folder / "vln_pe" / f"{name}.yaml"
        args = StartArguments(model_config=str(path), tokenizer="words")
        _, words = start(name, args, {str(folder / "vln_pe" / "data"): [vln.SCANS[0]]})
        torch.manual_seed(0)
        model = kind(of_kind(**yaml.safe_load(path.read_text())))
        root = folder / "vln_pe" / "data"
        data = VLNDataset(root, words, targets=targets, scans=[vln.SCANS[0]], cache_dir=cache)
        yield name, model.eval(), data, VLNCollator()


def evaluated(folder: Path, batch_size: int) -> dict[str, dict[str, float]]:
    """Losses of each family."""
    found = {}
    for name, model, data, collator in families(folder):
        with tempfile.TemporaryDirectory() as output_dir:
            args = NavTrainingArguments(
                output_dir=output_dir,
                use_cpu=True,
                report_to="none",
                disable_tqdm=True,
                dataloader_num_workers=0,
                per_device_eval_batch_size=batch_size,
            )
            trainer = NavTrainer(model, args, data_collator=collator, eval_dataset=data)
            metrics = trainer.evaluate()
        found[name] = {k: v for k, v in metrics.items() if k.endswith("loss")}
    return found


if __name__ == "__main__":
    result = {"families": evaluated(Path(sys.argv[1]), batch_size=3)}
    result["toys"] = evaluated_and_predicted()
    if PartialState().is_main_process:
        Path(sys.argv[2]).write_text(json.dumps(result))
    PartialState().destroy_process_group()
