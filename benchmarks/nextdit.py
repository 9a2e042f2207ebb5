"""The cost of a call of NextDiT's `sample`, compared with the plain loop.

    python -m benchmarks.nextdit

The released size, 32 samples, 10 steps, guidance 1, one core, all in one run and in turn. The plain
loop consists of diffusers' own Lumina blocks, repeats the condition for every sample, doubles it by
a null condition as the released code does, and recomputes everything in each step; a second loop
encodes the views and the plan once. `sample` is measured from images, and as it runs within an
episode, in which the features of the decision's view are kept. All must give equal actions. Exits
with 1 if the plain loop is less than 2.5 times as slow as `sample` from images.
"""

import itertools
import sys
import time
from collections.abc import Callable

import torch
from diffusers.models.attention import LuminaFeedForward
from diffusers.models.embeddings import (
    LuminaCombinedTimestepCaptionEmbedding,
    PixArtAlphaTextProjection,
)
from diffusers.models.normalization import LuminaLayerNormContinuous
from diffusers.models.transformers.lumina_nextdit2d import LuminaNextDiTBlock
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from internnav_hf.command_line import LineParser
from internnav_hf.models.nextdit.config import NextDiTConfig
from internnav_hf.models.nextdit.model import NextDiTActionExpert, noise_schedule
from internnav_hf.models.nextdit.released import released_keys

TARGET = 2.5
PLAIN, OURS = "plain loop", "sample"


def main() -> None:
    """Print seconds, ratios and operations of the loops."""
    parser = LineParser(__doc__)
    parser.add_argument("--num_samples", type=int, default=32, help="trajectories per call")
    parser.add_argument(
        "--rounds", type=int, default=3, help="calls of each; each step's best counts"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = NextDiTActionExpert(NextDiTConfig()).eval().requires_grad_(False)
    config, plain = model.config, PlainLoop(model)
    plan = torch.randn(1, 4, config.plan_hidden_size)
    rgb = torch.rand(1, 2, 3, config.image_size, config.image_size)
    noise = torch.randn(1, options.num_samples, config.action_horizon, 3)
    kept = model.encode_views(rgb[:, :1])

    def within_episode() -> Tensor:
        views = torch.cat([kept, model.encode_views(rgb[:, 1:])], dim=1)
        return model.sample(plan, views=views, noise=noise)

    loops = {
        PLAIN: lambda: plain(plan, rgb, noise),
        f"{PLAIN}, encoders once": lambda: plain(plan, rgb, noise, encode_once=True),
        OURS: lambda: model.sample(plan, rgb, noise=noise),
        f"{OURS}, within an episode": within_episode,
    }
    report(loops, model, options.rounds)


class PlainLoop:
    """The published sampling loop: one decision, both branches, nothing kept between steps."""

    def __init__(self, model: NextDiTActionExpert):
        """Gives `model` a denoiser with random weights and open gates, shared with the loop."""
        self.model = model
        self.denoiser = PlainDenoiser(model.config).eval().requires_grad_(False)
        for layer in self.denoiser.layers:
            nn.init.normal_(layer.gate)
        names = {f"traj_dit.model.{key}": v for key, v in self.denoiser.state_dict().items()}
        unexpected = model.load_state_dict(released_keys(names, model.config), strict=False)[1]
        assert not unexpected, unexpected

    @torch.no_grad()
    def __call__(
        self,
        plan: Tensor,
        rgb: Tensor,
        noise: Tensor,
        guidance_scale: float = 1.0,
        encode_once: bool = False,
    ) -> Tensor:
        """Actions (1, samples, H, 3), as `NextDiTActionExpert.sample` from the same `noise`."""
        model, num_samples = self.model, noise.shape[1]
        schedule = noise_schedule(model.config.num_inference_steps)
        kept = self.encode(plan, rgb) if encode_once else None
        actions = noise[0]
        for time_ in schedule.timesteps:  # pyright: ignore[reportOptionalIterable]
            condition = kept if kept is not None else self.encode(plan, rgb)
            condition = condition.repeat(num_samples, 1, 1)
            condition = torch.cat([torch.zeros_like(condition), condition])
            hidden = model.action_encoder(torch.cat([actions, actions])) + model.step_code()
            times = time_.long().expand(2 * num_samples)
            velocity = model.action_decoder(self.denoiser(hidden, times, condition))
            free, guided = velocity.chunk(2)
            velocity = free + guidance_scale * (guided - free)
            actions = schedule.step(velocity, time_, actions).prev_sample
        return actions[None] / torch.tensor(model.config.action_scale)

    def encode(self, plan: Tensor, rgb: Tensor) -> Tensor:
        """The condition's tokens (1, N, Z)."""
        return self.model.condition(plan, self.model.encode_views(rgb))


class PlainDenoiser(nn.Module):
    """diffusers' LuminaNextDiT on sequences, without rotary positions; released key names."""

    def __init__(self, config: NextDiTConfig):
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.caption_projection = PixArtAlphaTextProjection(config.condition_size, width)
        self.time_caption_embed = LuminaCombinedTimestepCaptionEmbedding(width, width)
        self.layers = nn.ModuleList(
            LuminaNextDiTBlock(width, heads, heads, 256, None, 1e-5, True, width)
            for _ in range(config.num_hidden_layers)
        )
        for layer in self.layers:
            layer.feed_forward = LuminaFeedForward(width, config.intermediate_size, multiple_of=1)
        self.norm_out = LuminaLayerNormContinuous(
            width, width, elementwise_affine=False, eps=1e-6, out_dim=width
        )

    def forward(self, hidden: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """(R, H, C) of `hidden` (R, H, C), `timesteps` (R,) and `condition` (R, N, Z)."""
        tokens = self.caption_projection(condition)
        steps_mask, tokens_mask = (torch.ones(x.shape[:2]).bool() for x in (hidden, tokens))
        embedding = self.time_caption_embed(timesteps, tokens, tokens_mask)
        for layer in self.layers:
            hidden = layer(hidden, steps_mask, None, tokens, tokens_mask, embedding, {})
        return self.norm_out(hidden, embedding)


def report(loops: dict[str, Callable[[], Tensor]], model: NextDiTActionExpert, rounds: int) -> None:
    """Check that all agree, print the costs, exit with 1 below the target."""
    actions, operations = {}, {}
    for name, loop in loops.items():
        with FlopCounterMode(display=False) as counter:
            actions[name] = loop()
        operations[name] = counter.get_total_flops()
    turns = [{name: seconds(loop, model) for name, loop in loops.items()} for _ in range(rounds)]
    costs = {name: sum(map(min, *(turn[name] for turn in turns))) for name in loops}
    print(f"{'one core':<28}{'seconds':>9}{'ratio':>8}{'GFLOP':>9}{'ratio':>8}{'max |d|':>10}")
    for name in loops:
        difference = (actions[name] - actions[OURS]).abs().max().item()
        assert difference <= 1e-5, f"{name} differs by {difference}"
        print(
            f"{name:<28}{costs[name]:9.2f}{costs[name] / costs[OURS]:7.2f}x"
            f"{operations[name] / 1e9:9.0f}{operations[name] / operations[OURS]:7.2f}x"
            f"{difference:10.1e}"
        )
    print(
        "What bounds it: nearly all of sample's operations are the projections and the feed-forward"
        "\nof the samples' own tokens, which no two samples or steps share. The plain loop adds"
        "\nthe second branch, the condition's keys and values, the encoders."
    )
    if costs[PLAIN] / costs[OURS] < TARGET:
        sys.exit(f"sample is less than {TARGET} times faster than the plain loop")


def seconds(loop: Callable[[], object], model: NextDiTActionExpert) -> list[float]:
    """Processor time of each step of a call, the encoders with the first one.

    Step by step, so that other programs on the machine do not spoil a whole call.
    """
    times = [time.process_time()]
    hook = model.action_decoder.register_forward_hook(lambda *_: times.append(time.process_time()))
    loop()
    hook.remove()
    return [end - start for start, end in itertools.pairwise(times)]


if __name__ == "__main__":
    main()
