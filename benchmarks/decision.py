"""The time of a decision with a plan: one key-value cache, compared with three whole passes.

    python -m benchmarks.decision

One robot with eight past frames, a current one at 384x384 and a look-down view of 640x480: 2,364
tokens. The published code reads the whole dialogue three times - for "↓", for the goal's words, for
the plan - each time with all images; within an answer it also decodes with a cache. Ours keeps the
cache of everything it has read. Both output the same scripted words, through the same
language-model head, whose own choices are compared as well. Exits with 1 if the ratio is below 2.3,
or if tokens or plans differ.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from internnav_hf.command_line import LineParser
from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.models.system2.config import System2Config
from internnav_hf.models.system2.dialogue import (
    LOOK_DOWN,
    first_user_message,
    look_down_message,
    render,
    render_continuation,
)
from internnav_hf.models.system2.model import System2Model
from internnav_hf.models.system2.processor import System2Processor
from internnav_hf.models.system2.session import System2Session
from internnav_hf.policies import System2Policy
from tests.tiny.qwen_tokenizer import qwen_tokenizer
from tests.tiny.system2 import tiny_vlm_config

TARGET, TOLERANCE = 2.3, 1e-5
INSTRUCTION = "Walk past the sofa, go through the door on the left and stop beside the table"
ANSWERS = (LOOK_DOWN, "330 371")


def main() -> None:
    """Print the seconds of both methods, and compare their outputs."""
    parser = LineParser(__doc__)
    parser.add_argument("--layers", type=int, default=8, help="layers of the language model")
    parser.add_argument("--width", type=int, default=512, help="width of the language model")
    parser.add_argument(
        "--rounds", type=int, default=2, help="decisions with each method; the best counts"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = make_model(options.layers, options.width)
    head = ScriptedHead(model.system2.vlm.lm_head, processor)
    model.system2.vlm.lm_head = head
    frames, view = random_frames(9, (384, 384)), random_frames(1, (640, 480), seed=1)[0]
    methods = {"three whole passes": three_passes, "one cache": one_cache}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    plans, tokens = {}, {}
    for _ in range(options.rounds):
        for name, method in methods.items():
            head.restart()
            took, plans[name] = timed(lambda method=method: method(model, processor, frames, view))
            seconds[name].append(took)
            tokens[name] = list(head.chosen)
    report({name: min(values) for name, values in seconds.items()}, plans, tokens)


def report(seconds: dict[str, float], plans: dict[str, Tensor], tokens: dict) -> None:
    """Print the table; exit with 1 below the target or if outputs differ."""
    whole, cached = seconds
    ratio = seconds[whole] / seconds[cached]
    print("| method | seconds per decision |\n|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.2f} |")
    difference = float((plans[whole] - plans[cached]).abs().max())
    equal = tokens[whole] == tokens[cached]
    print(f"\n{ratio:.2f} times as fast (target {TARGET}); tokens equal: {equal}; largest "
          f"difference of plans: {difference:.1e}")  # fmt: skip
    if ratio < TARGET or not equal or difference > TOLERANCE:
        sys.exit(1)


class ScriptedHead(nn.Module):
    """A head that notes its own choice, and outputs the scripted token instead."""

    def __init__(self, head: nn.Module, processor: System2Processor):
        super().__init__()
        self.head = head
        end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
        words = [processor.tokenizer(answer)["input_ids"] for answer in ANSWERS]
        self.script = [token for answer in words for token in (*answer, end)]
        self.restart()

    def restart(self) -> None:
        """Start the script from its first token."""
        self.chosen: list[int] = []

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (1, V) with all weight on the script's next token."""
        logits = self.head(hidden)
        token = self.script[len(self.chosen)]
        self.chosen.append(int(logits.argmax()))
        said = torch.zeros_like(logits)
        said[:, token] = 1.0
        return said


def one_cache(model, processor, frames, view) -> Tensor:
    """The policy's decision, and its plan."""
    policy = System2Policy(model.system2, processor, answer_with="text", planner=model.plan)
    return policy.decide(frames[-1], INSTRUCTION, frames[:-1], look_down=view).plan


@torch.no_grad()
def three_passes(model, processor, frames, view) -> Tensor:
    """The plan from three passes over the dialogue, each from its start."""
    text = render([first_user_message(INSTRUCTION, len(frames) - 1)], add_generation_prompt=True)
    text += answer_of_pass(model, processor, text, frames)
    text += render_continuation(look_down_message())
    text += answer_of_pass(model, processor, text, [*frames, view]) + "<|im_end|>\n"
    session = System2Session(model.system2)
    session.extend([processor.encode_text(text, [*frames, view])])
    return model.plan(session)[0]


def answer_of_pass(model, processor, text: str, images: list[Image.Image]) -> str:
    """The answer after the whole of `text`."""
    session = System2Session(model.system2)
    session.extend([processor.encode_text(text, images)])
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    return processor.tokenizer.decode(session.generate({end}, 32)[0])


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds of a call, and its result."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def make_model(num_layers: int, width: int) -> tuple[DualSystemModel, System2Processor]:
    """A small Qwen2.5-VL with random weights, and the released image processing."""
    torch.manual_seed(0)
    fields = tiny_vlm_config("qwen2_5_vl", tie_word_embeddings=False).to_dict()
    text = {name: value for name, value in fields["text_config"].items() if name != "layer_types"}
    rope = text["rope_parameters"] | {"mrope_section": [8, 12, 12]}
    text |= {"num_hidden_layers": num_layers, "hidden_size": width, "intermediate_size": 4 * width}
    heads = {"num_attention_heads": width // 64, "num_key_value_heads": 2, "head_dim": 64}
    text |= heads | {"rope_parameters": rope}
    vision = {"depth": 4, "hidden_size": 256, "intermediate_size": 1024, "num_heads": 8}
    vision |= {"out_hidden_size": width, "fullatt_block_indexes": [3]}
    vision = fields["vision_config"] | vision
    vlm = AutoConfig.for_model(**fields | {"text_config": text, "vision_config": vision})
    config = System2Config(vlm_config=vlm, use_pixel_goal_head=False)
    expert = NextDiTConfig(plan_hidden_size=width, use_images=False)
    model = DualSystemModel.from_parts(System2Model(config), expert).eval()
    sizes = {"shortest_edge": 3136, "longest_edge": 12_845_056}
    return model, System2Processor(Qwen2VLImageProcessorPil(size=sizes), qwen_tokenizer(2048))


def random_frames(count: int, size: tuple[int, int], seed: int = 0) -> list[Image.Image]:
    """A noise image of (width, height)."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, *size[::-1], 3), dtype=np.uint8)
    return [Image.fromarray(frame) for frame in pixels]


if __name__ == "__main__":
    main()
