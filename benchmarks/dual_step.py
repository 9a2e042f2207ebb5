"""The cost of a training step of the dual system: frozen prefix compared with the whole pass.

    python -m benchmarks.dual_step
    python -m benchmarks.dual_step --layers 12 --tokens 2300      # as long as the published samples

Both compute the same plans, loss and gradients, each in its own process on the same weights and
samples, one after the other in one run. One is the frozen prefix of `DualSystemModel`. The plain
method has dialogue and queries as one sequence under autograd, with System2's weights frozen, and
computes the logits of every position, as the published code does without using them. The dialogue
is text only: images cost the same in both.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig

from internnav_hf.command_line import LineParser
from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.models.system2.config import System2Config
from internnav_hf.models.system2.model import System2Model
from tests.tiny.system2 import tiny_vlm_config

BATCH, WIDTH, VOCABULARY = 2, 512, 152_064


def main() -> None:
    """Run both methods and compare them."""
    parser = LineParser(__doc__)
    parser.add_argument("--layers", type=int, default=6, help="layers of System2's language model")
    parser.add_argument("--tokens", type=int, default=1200, help="tokens of a dialogue")
    parser.add_argument("--steps", type=int, default=2, help="measured steps, after a first one")
    parser.add_argument("--way", choices=("frozen", "plain"), help="run one, and print JSON")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options)))
        return
    size = [f"--{name}={getattr(options, name)}" for name in ("layers", "tokens", "steps")]
    results = {method: run([*size, "--way", method]) for method in ("plain", "frozen")}
    report(results, options)


def run(arguments: list[str]) -> dict:
    """Run one method in its own process, so that the memory peak is its own."""
    command = [sys.executable, "-m", "benchmarks.dual_step", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(results: dict[str, dict], options: argparse.Namespace) -> None:
    """Print the table; exit with an error if gradients differ."""
    plain, frozen = results["plain"], results["frozen"]
    print(f"{options.layers} layers of {WIDTH}, {BATCH} dialogues of {options.tokens} tokens\n")
    print("| method | seconds per step | peak memory above the model, MiB |")
    print("|---|---|---|")
    for method, result in results.items():
        print(f"| {method} | {result['seconds']:.2f} | {result['memory']:.0f} |")
    print(f"| ratio | {plain['seconds'] / frozen['seconds']:.1f} "
          f"| {plain['memory'] / frozen['memory']:.1f} |")  # fmt: skip
    expected, found = (torch.tensor(method["gradient"]) for method in (plain, frozen))
    difference = float((found - expected).norm() / expected.norm())
    print(f"\nRelative difference of the queries' gradient: {difference:.1e}")
    if difference > 1e-5 or plain["seconds"] < frozen["seconds"]:
        sys.exit("The frozen prefix is not equal, or not faster.")


def measure(options: argparse.Namespace) -> dict:
    """Seconds of the fastest step after the first, peak memory, the queries' gradient."""
    model, batch = make_model(options.layers), make_batch(options.tokens)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak of building the model
    before = _peak_mib()
    step = frozen_step if options.way == "frozen" else plain_step
    seconds = []
    for _ in range(options.steps + 1):
        model.zero_grad()
        start = time.perf_counter()
        step(model, batch).backward()
        seconds.append(time.perf_counter() - start)
    gradient = model.latent_queries.weight.grad.flatten().tolist()
    return {
        "seconds": min(seconds[1:]),
        "memory": _peak_mib() - before,
        "gradient": gradient,
    }


def frozen_step(model: DualSystemModel, batch: dict[str, Tensor]) -> Tensor:
    """The loss as the model computes it."""
    return model(**batch).loss


def plain_step(model: DualSystemModel, batch: dict[str, Tensor]) -> Tensor:
    """The loss by one pass over everything."""
    batch, ids = dict(batch), batch["input_ids"]
    del batch["input_ids"]
    queries = model.latent_queries.weight.expand(len(ids), -1, -1)
    embeddings = torch.cat([model.get_input_embeddings()(ids), queries], dim=1)
    vlm = model.system2.vlm
    hidden = vlm.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    vlm.lm_head(hidden)
    return model.action_expert(hidden[:, ids.shape[1] :], **batch).loss


def make_model(layers: int) -> DualSystemModel:
    """A System2 with the vocabulary of Qwen2.5-VL and a small expert without images."""
    torch.manual_seed(0)
    vlm_config = tiny_vlm_config()
    changes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": layers}
    changes |= {"num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": VOCABULARY}
    text = {**vlm_config.text_config.to_dict(), **changes, "layer_types": None}
    text |= {"head_dim": WIDTH // 8, "rope_parameters": {**ROPE, "rope_theta": 1e6}}
    vision = {**vlm_config.vision_config.to_dict(), "out_hidden_size": WIDTH}
    vlm_config = AutoConfig.for_model("qwen2_5_vl", text_config=text, vision_config=vision)
    system2 = System2Model(System2Config(vlm_config=vlm_config, use_pixel_goal_head=False))
    expert = NextDiTConfig(
        plan_hidden_size=WIDTH, use_images=False, num_hidden_layers=2, hidden_size=96
    )
    model = DualSystemModel.from_parts(system2, expert)
    model.system2.requires_grad_(False)
    return model.eval()


ROPE = {"rope_type": "default", "mrope_section": [8, 12, 12]}


def make_batch(num_tokens: int) -> dict[str, Tensor]:
    """Random words and trajectories."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(100, 2000, (BATCH, num_tokens), generator=generator)
    actions = 0.1 * torch.randn(BATCH, 6, 32, 3, generator=generator)
    return {
        "input_ids": ids,
        "actions": actions,
        "frame_mask": torch.ones(BATCH, 6, dtype=torch.bool),
    }


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
