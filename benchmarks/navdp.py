"""The cost of a call of NavDP*'s `sample`, compared with the plain loop.

    python -m benchmarks.navdp

The released size, 32 samples, 20 steps, one core, both in one run and in turn. The plain loop runs
torch's TransformerDecoder on a condition repeated for every sample, and recomputes everything in
each step; a second loop encodes the frames and the plan once. All must give equal actions. Exits
with 1 if the plain loop is less than 1.6 times as slow.
"""

import sys
import time
from collections.abc import Callable

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from internnav_hf.command_line import LineParser
from internnav_hf.models.navdp.config import NavDPActionExpertConfig
from internnav_hf.models.navdp.expert import NavDPActionExpert
from internnav_hf.models.navdp.trunk import Denoiser

TARGET = 1.6


def main() -> None:
    """Print seconds, ratios and operations of the three loops."""
    parser = LineParser(__doc__)
    parser.add_argument("--num_samples", type=int, default=32, help="trajectories per call")
    parser.add_argument("--rounds", type=int, default=2, help="calls of each; the best counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = NavDPActionExpert(NavDPActionExpertConfig()).eval().requires_grad_(False)
    plan, size = torch.randn(1, 4, model.config.plan_hidden_size), model.config.image_size
    views = {"rgb": torch.rand(1, 2, 3, size, size), "depth": 5 * torch.rand(1, 2, size, size)}

    def run(sampler: Callable[..., Tensor], **settings) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return sampler(
            plan, **views, num_samples=options.num_samples, generator=generator, **settings
        )

    loops = {
        "plain loop": lambda: run(PlainLoop(model)),
        "plain loop, encoders once": lambda: run(PlainLoop(model), encode_once=True),
        "sample": lambda: run(model.sample),
    }
    report(loops, options.rounds)


class PlainLoop:
    """The sampling loop in its simplest form: nothing is kept between steps or shared."""

    def __init__(self, model: NavDPActionExpert):
        self.model = model
        self.decoder = torch_decoder(model.denoiser)

    @torch.no_grad()
    def __call__(
        self,
        plan: Tensor,
        rgb: Tensor,
        depth: Tensor,
        num_samples: int,
        generator: torch.Generator,
        encode_once: bool = False,
    ) -> Tensor:
        """Actions (B, num_samples, H, 3), as `NavDPActionExpert.sample` from the same generator."""
        config = self.model.config
        schedule = DDPMScheduler(
            config.num_diffusion_steps, beta_schedule="squaredcos_cap_v2", clip_sample=True
        )
        schedule.set_timesteps(config.num_diffusion_steps)
        shape = (len(plan) * num_samples, config.action_horizon, 3)
        actions = torch.randn(shape, generator=generator)
        kept = self.encode(plan, rgb, depth) if encode_once else None
        for timestep in schedule.timesteps:
            condition = kept if kept is not None else self.encode(plan, rgb, depth)
            noise = self.predict(actions, condition.repeat_interleave(num_samples, 0), timestep)
            actions = schedule.step(noise, timestep, actions, generator=generator).prev_sample
        actions = actions / actions.new_tensor(config.action_scale)
        return actions.unflatten(0, (len(plan), num_samples))

    def encode(self, plan: Tensor, rgb: Tensor, depth: Tensor) -> Tensor:
        """The condition (B, N - 1, C) without the time token."""
        return self.model.read_condition(plan, self.model.encode_views(rgb, depth))

    def predict(self, actions: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        """The noise in `actions` (R, H, 3)."""
        denoiser = self.model.denoiser
        time_token = denoiser.time_tokens(timestep.expand(len(actions)))
        condition = torch.cat([time_token, condition], dim=1) + denoiser.condition_positions.weight
        steps = denoiser.action_embedding(actions) + denoiser.action_positions.weight
        mask = nn.Transformer.generate_square_subsequent_mask(steps.shape[1])
        hidden = self.decoder(steps, condition, tgt_mask=mask, tgt_is_causal=True)
        return denoiser.action_head(denoiser.norm(hidden))


def torch_decoder(denoiser: Denoiser) -> nn.TransformerDecoder:
    """torch's own decoder with the denoiser's weights."""
    first = denoiser.layers[0]
    layer = nn.TransformerDecoderLayer(
        first.linear1.in_features,
        first.self_attn.num_heads,
        first.linear1.out_features,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    decoder = nn.TransformerDecoder(layer, len(denoiser.layers)).eval()
    decoder.layers.load_state_dict(denoiser.layers.state_dict())
    return decoder


def report(loops: dict[str, Callable[[], Tensor]], rounds: int) -> None:
    """Check that all agree, print the costs, exit with 1 below the target."""
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
        difference = (actions[name] - actions["sample"]).abs().max().item()
        assert difference <= 1e-5, f"{name} differs by {difference}"
        print(
            f"{name:<28}{costs[name]:9.2f}{costs[name] / costs['sample']:7.2f}x"
            f"{operations[name] / 1e9:9.0f}{operations[name] / operations['sample']:7.2f}x"
            f"{difference:10.1e}"
        )
    print(
        "What bounds it: the projections and the feed-forward of the samples' own tokens, which are"
        "\nnearly all of sample's operations and which no two samples or steps share."
    )
    if costs["plain loop"] / costs["sample"] < TARGET:
        sys.exit(f"sample is less than {TARGET} times faster than the plain loop")


def seconds(work: Callable[[], object]) -> float:
    """Processor time of a call, in seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
