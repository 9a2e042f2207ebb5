"""What a call of NextDiT's `sample` costs, against the plain loop.

    python -m benchmarks.nextdit

The released size, 32 samples, 10 steps, guidance 1, one core, all in one run and in turn. The plain
loop is the published one from diffusers' own Lumina blocks: views encoded once a call, the
condition repeated for every sample and doubled by a null condition, everything else computed anew
in each step. `sample` is measured from images, and as it runs within an episode, where the features
of the view of the decision are kept. All must give equal actions. Exits with 1 when the plain loop
is less than 2.5 times as slow as `sample` within an episode.
"""

import argparse
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

from internnav_hf.models.nextdit import NextDiTActionExpert, noise_schedule, released_keys
from internnav_hf.models.nextdit_config import NextDiTConfig

TARGET = 2.5
WITHIN_EPISODE = "sample, within an episode"


def main() -> None:
    """Print seconds, ratios and operations of the loops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--num_samples", type=int, default=32, help="trajectories a call")
    parser.add_argument("--rounds", type=int, default=3, help="calls of each; the best counts")
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
        "plain loop": lambda: plain(plan, rgb, noise),
        "sample, from images": lambda: model.sample(plan, rgb, noise=noise),
        WITHIN_EPISODE: within_episode,
    }
    report(loops, options.rounds)


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


class PlainLoop:
    """The published sampling loop: one decision, both branches, nothing kept between steps."""

    def __init__(self, model: NextDiTActionExpert):
        """Gives `model` a denoiser of random weights, its gates open, that is also the loop's."""
        self.model = model
        self.denoiser = PlainDenoiser(model.config).eval().requires_grad_(False)
        for layer in self.denoiser.layers:
            nn.init.normal_(layer.gate)
        names = {f"traj_dit.model.{key}": v for key, v in self.denoiser.state_dict().items()}
        unexpected = model.load_state_dict(released_keys(names, model.config), strict=False)[1]
        assert not unexpected, unexpected

    @torch.no_grad()
    def __call__(
        self, plan: Tensor, rgb: Tensor, noise: Tensor, guidance_scale: float = 1.0
    ) -> Tensor:
        """Actions (1, samples, H, 3), as `NextDiTActionExpert.sample` from the same `noise`."""
        model, num_samples = self.model, noise.shape[1]
        schedule = noise_schedule(model.config.num_inference_steps)
        condition = model.condition(plan, model.encode_views(rgb)).repeat(num_samples, 1, 1)
        condition = torch.cat([torch.zeros_like(condition), condition])
        actions = noise[0]
        for time_ in schedule.timesteps:  # pyright: ignore[reportOptionalIterable]
            hidden = model.action_encoder(torch.cat([actions, actions])) + model.step_code()
            times = time_.long().expand(2 * num_samples)
            velocity = model.action_decoder(self.denoiser(hidden, times, condition))
            free, guided = velocity.chunk(2)
            velocity = free + guidance_scale * (guided - free)
            actions = schedule.step(velocity, time_, actions).prev_sample
        return actions[None] / torch.tensor(model.config.action_scale)


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


def report(loops: dict[str, Callable[[], Tensor]], rounds: int) -> None:
    """Check that all agree, print what each costs, leave with 1 below the target."""
    actions, operations = {}, {}
    for name, loop in loops.items():
        with FlopCounterMode(display=False) as counter:
            actions[name] = loop()
        operations[name] = counter.get_total_flops()
    costs = {name: float("inf") for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            costs[name] = min(costs[name], seconds(loop))
    print(f"{'one core':<28}{'seconds':>9}{'ratio':>8}{'GFLOP':>9}{'ratio':>8}{'max |d|':>10}")
    for name in loops:
        difference = (actions[name] - actions[WITHIN_EPISODE]).abs().max().item()
        assert difference <= 1e-5, f"{name} differs by {difference}"
        print(
            f"{name:<28}{costs[name]:9.2f}{costs[name] / costs[WITHIN_EPISODE]:7.2f}x"
            f"{operations[name] / 1e9:9.0f}{operations[name] / operations[WITHIN_EPISODE]:7.2f}x"
            f"{difference:10.1e}"
        )
    print(
        "What bounds it: the projections and the feed-forward of the samples' own tokens, which no"
        "\ntwo samples or steps share, are nearly all of sample's operations. The rest of the"
        "\nplain loop is its second branch and the condition's keys and values."
    )
    if costs["plain loop"] / costs[WITHIN_EPISODE] < TARGET:
        sys.exit(f"sample is less than {TARGET} times faster than the plain loop")


def seconds(work: Callable[[], object]) -> float:
    """Processor time of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
