"""Tokens per second of System2's training with and without padding, on the published mixture.

    python -m benchmarks.packing
    python -m benchmarks.packing --width 1024 --layers 4

All ways take turns in one process, each with the dialogues of one epoch: padded in batches in any
order, padded in batches of about equal length, and packed, once sample by sample and once with
transformers' block-diagonal mask. Padding is that of the whole epoch. Lengths are those of 60-frame
walks with a decision at every fourth frame: pixel goals show two views (384x384 and 640x480), turns
and stops one, with up to eight past views; a walk's stop counts five times. The dialogues are text:
images cost the same in all.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from internnav_hf.command_line import LineParser
from internnav_hf.data.tasks.system2_sampling import history_indices
from internnav_hf.models.system2.config import System2Config
from internnav_hf.models.system2.model import System2Model
from internnav_hf.models.system2.packing import BY_SAMPLE
from internnav_hf.training.packing import plan_packs
from internnav_hf.training.sampler import LengthGroups
from tests.tiny.system2 import tiny_vlm_config

VIEW_TOKENS, LOOK_DOWN_TOKENS, TEXT_TOKENS, ANSWER_TOKENS = 199, 394, 110, 9
FRAMES, STEP, NUM_HISTORY, STOPS = 60, 4, 8, 5
TURNS = 0.2  # share of the decisions on the way


def main() -> None:
    """Measure every way and print the table."""
    parser = LineParser(__doc__)
    parser.add_argument("--samples", type=int, default=1000, help="dialogues of the epoch")
    parser.add_argument("--tokens", type=int, default=8_000, help="of a way in a round")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of all ways")
    parser.add_argument("--batch", type=int, default=2, help="dialogues of a padded batch")
    parser.add_argument("--packing_length", type=int, default=8192, help="tokens of a pack")
    parser.add_argument("--width", type=int, default=256, help="of the language model")
    parser.add_argument("--layers", type=int, default=2, help="of the language model")
    options = parser.parse_args()
    lengths = published_lengths(options.samples, np.random.default_rng(0))
    mixed = np.random.default_rng(1).permutation(len(lengths)).tolist()
    grouped = list(LengthGroups(lengths, options.batch, seed=0))
    packs = plan_packs(lengths, options.packing_length, seed=0)
    model = language_model(options)
    print(f"{len(lengths)} dialogues of {lengths.min()} to {lengths.max()} tokens\n")
    model.drop_padding()
    ways = [
        Way("padded, any order", False, "sdpa", split(mixed, options.batch)),
        Way("padded, equal lengths", False, "sdpa", split(grouped, options.batch)),
        Way("packed, sample by sample", True, BY_SAMPLE, packs),
        Way("packed, block-diagonal mask", True, "sdpa", packs),
    ]
    step(model, batch_of(lengths[:1]))
    for _ in range(options.rounds):
        for way in ways:
            way.train(model, lengths, options.tokens)
    print("| way | padding | tokens per CPU second | against the first |\n|---|---|---|---|")
    for way in ways:
        ratio = way.speed / ways[0].speed
        print(f"| {way.name} | {way.padding(lengths):.1%} | {way.speed:.0f} | {ratio:.2f} |")


def published_lengths(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) tokens of dialogues that are drawn like those of an epoch."""
    frames = range(0, FRAMES - 1, STEP)
    pool = []
    for frame in [*frames, *[FRAMES - 1] * STOPS]:
        past = len(history_indices(frame, NUM_HISTORY))
        is_goal = frame in frames and rng.random() > TURNS
        pool.append(TEXT_TOKENS + VIEW_TOKENS * (past + 1) + LOOK_DOWN_TOKENS * is_goal)
    return rng.choice(pool, count) + rng.integers(-30, 31, count)  # instructions differ


def language_model(options: argparse.Namespace) -> System2Model:
    """A System2 with random weights, small vision tower and head of words."""
    config = tiny_vlm_config()
    heads = options.width // 64
    text = {"hidden_size": options.width, "intermediate_size": 3 * options.width}
    text |= {"num_attention_heads": heads, "num_key_value_heads": heads, "head_dim": 64}
    text |= {
        "num_hidden_layers": options.layers,
        "layer_types": ["full_attention"] * options.layers,
    }
    text["rope_parameters"] = config.text_config.rope_parameters | {"mrope_section": [8, 12, 12]}
    for name, value in text.items():
        setattr(config.text_config, name, value)
    config.vision_config.out_hidden_size = options.width
    torch.manual_seed(0)
    return System2Model(System2Config(vlm_config=config, use_pixel_goal_head=False)).train()


def split(order: Sequence[int], size: int) -> list[list[int]]:
    """`order` in batches."""
    return [list(order[start : start + size]) for start in range(0, len(order), size)]


@dataclass
class Way:
    """A way to make batches of an epoch, `attention` and whether padding is dropped."""

    name: str
    drops_padding: bool
    attention: str
    batches: list[list[int]]
    tokens: int = 0
    seconds: float = 0.0

    def __post_init__(self):
        order = np.random.default_rng(0).permutation(len(self.batches))
        self.batches = [self.batches[number] for number in order]
        self.coming = iter(self.batches)

    def train(self, model: System2Model, lengths: np.ndarray, tokens: int) -> None:
        """Train on the next batches until they have so many tokens."""
        model.drops_padding = self.drops_padding
        model.vlm.model.language_model.set_attn_implementation(self.attention)
        goal = self.tokens + tokens
        while self.tokens < goal:
            batch = lengths[next(self.coming)]
            start = time.process_time()
            step(model, batch_of(batch))
            self.seconds += time.process_time() - start
            self.tokens += int(batch.sum())

    @property
    def speed(self) -> float:
        """Tokens per CPU second."""
        return self.tokens / self.seconds

    def padding(self, lengths: np.ndarray) -> float:
        """Its share of what is computed in the whole epoch."""
        computed = sum(len(batch) * lengths[batch].max() for batch in self.batches)
        return 0.0 if self.drops_padding else 1 - lengths.sum() / computed


def batch_of(lengths: np.ndarray) -> dict[str, Tensor]:
    """Random words; the last of each dialogue are its answer."""
    columns, ends = torch.arange(int(lengths.max())), torch.as_tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(int(lengths.sum()))
    ids = torch.randint(0, 2000, (len(lengths), len(columns)), generator=generator)
    is_answer = (columns < ends) & (columns >= ends - ANSWER_TOKENS)
    return {
        "input_ids": ids,
        "attention_mask": (columns < ends).long(),
        "labels": torch.where(is_answer, ids, -100),
        "mm_token_type_ids": torch.zeros_like(ids),
    }


def step(model: System2Model, batch: dict[str, Tensor]) -> None:
    """Forward and backward."""
    model.zero_grad()
    loss = model(**batch).loss
    assert loss is not None
    loss.backward()


if __name__ == "__main__":
    main()
