"""The cost of a call of NavDP's `sample`, compared with the plain loop.

    python -m benchmarks.navdp_sampling

The released size, 32 samples, 10 steps, the critic: one core, all in one run and in turn. The plain
loop encodes the 8 frames and the depth once per call, as the reference does, and runs torch's
TransformerDecoder on a condition repeated for every sample. Ours is timed in a running episode: in
its first call, with one frame in memory; in a first call with 8 frames, all of them new; and in a
following call, with 7 of the 8 already encoded. All must give equal trajectories and values. Exits
with 1 if the plain loop is less than 1.6 times as slow as a first call with 8 frames, or less than
2 times as slow as a following one.

With a GPU, the latency there is measured instead, also with torch.compile's CUDA graphs.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from benchmarks.navdp import torch_decoder
from internnav_hf.command_line import LineParser
from internnav_hf.models.navdp.config import NavDPConfig
from internnav_hf.models.navdp.model import NavDPModel

FIRST, FOLLOWING = 1.6, 2.0  # times as fast as the plain loop
NUM_GOAL_SLOTS = 3


def main() -> None:
    """Print seconds and ratios of the calls, or latencies on the GPU."""
    parser = LineParser(__doc__)
    parser.add_argument("--num_samples", type=int, default=32, help="trajectories per call")
    parser.add_argument("--rounds", type=int, default=3, help="calls of each; the best counts")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = NavDPModel(NavDPConfig()).eval().requires_grad_(False)
    if torch.cuda.is_available():
        report_latency(model.to(torch.device("cuda")), options.num_samples)
    else:
        torch.set_num_threads(1)
        report(model, options.num_samples, options.rounds)


class Episode:
    """A robot's memory of frames, with the features of each frame."""

    def __init__(self, model: NavDPModel, num_samples: int):
        size, device = model.config.image_size, model.device
        generator = torch.Generator().manual_seed(1)
        frames = torch.rand(model.config.num_memory_frames, 3, size, size, generator=generator)
        self.rgb = frames[None].to(device)
        self.depth = 5 * torch.rand(1, size, size, generator=generator).to(device)
        self.goal = [{"point": torch.tensor([3.0, 1.0, 0.0], device=device)}]
        self.model, self.num_samples = model, num_samples
        self.known = model.encode_rgb(self.rgb[0, :-1])

    def arguments(self) -> dict:
        """The inputs of a sampler, except the memory."""
        generator = torch.Generator(self.rgb.device).manual_seed(0)
        return {
            "goal": self.goal,
            "depth": self.depth,
            "num_samples": self.num_samples,
            "generator": generator,
        }

    def first(self):
        """A call without encoded frames."""
        return self.model.sample(rgb=self.rgb, **self.arguments())

    def following(self):
        """A call with all frames encoded but the current one."""
        current = self.model.encode_rgb(self.rgb[0, -1:])
        rgb_tokens = torch.cat([self.known, current])[None]
        return self.model.sample(rgb_tokens=rgb_tokens, **self.arguments())


class PlainLoop:
    """The sampling loop in its simplest form: one condition per sample, recomputed in each step."""

    def __init__(self, model: NavDPModel):
        self.model = model
        self.decoder = torch_decoder(model.denoiser)

    @torch.no_grad()
    def __call__(
        self,
        goal: list[dict[str, Tensor]],
        rgb: Tensor,
        depth: Tensor,
        num_samples: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Trajectories (B, N, H, 3) and values (B, N), as `NavDPModel.sample`."""
        config, encoder = self.model.config, self.model.rgbd_encoder
        rgb_tokens = encoder.encode_rgb(rgb.flatten(0, 1)).unflatten(0, rgb.shape[:2])
        scene = encoder(rgb_tokens, encoder.encode_depth(depth)[:, None])
        slots = self.model.goal_encoder.embed(goal, like=scene)
        condition = torch.cat([slots, scene], dim=1).repeat_interleave(num_samples, 0)
        schedule = DDPMScheduler(
            config.num_diffusion_steps, beta_schedule="squaredcos_cap_v2", clip_sample=True
        )
        schedule.set_timesteps(config.num_diffusion_steps)
        shape = (len(condition), config.action_horizon, 3)
        scaled = torch.randn(shape, generator=generator)
        for timestep in schedule.timesteps:
            noise = self.predict(scaled, condition, timestep)
            scaled = schedule.step(noise, timestep, scaled, generator=generator).prev_sample
        values = self.values(scaled, condition).unflatten(0, (len(rgb), num_samples))
        values, order = values.sort(dim=1, descending=True, stable=True)
        paths = (scaled / config.action_scale[0]).cumsum(1).unflatten(0, (len(rgb), num_samples))
        return paths.gather(1, order[..., None, None].expand_as(paths)), values

    def predict(self, scaled: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        """The noise in `scaled` (R, H, 3)."""
        denoiser = self.model.denoiser
        time_token = denoiser.time_tokens(timestep.expand(len(scaled)))
        condition = torch.cat([time_token, condition], dim=1) + denoiser.condition_positions.weight
        steps = denoiser.action_embedding(scaled) + denoiser.action_positions.weight
        mask = nn.Transformer.generate_square_subsequent_mask(steps.shape[1])
        hidden = self.decoder(steps, condition, tgt_mask=mask, tgt_is_causal=True)
        return denoiser.action_head(denoiser.norm(hidden))

    def values(self, scaled: Tensor, condition: Tensor) -> Tensor:
        """(R,) of `scaled` (R, H, 3): time and goals are masked."""
        denoiser = self.model.denoiser
        nothing = torch.zeros_like(condition[:, :1])
        condition = torch.cat([nothing, condition], dim=1) + denoiser.condition_positions.weight
        steps = denoiser.action_embedding(scaled) + denoiser.action_positions.weight
        mask = torch.zeros(steps.shape[1], condition.shape[1])
        mask[:, : 1 + NUM_GOAL_SLOTS] = -torch.inf
        hidden = denoiser.norm(self.decoder(steps, condition, memory_mask=mask))
        return self.model.critic_head(hidden.mean(1))[:, 0]


def report(model: NavDPModel, num_samples: int, rounds: int) -> None:
    """Check that all agree, print the costs, exit with 1 below a target."""
    full, start = Episode(model, num_samples), Episode(model, num_samples)
    start.rgb[:, :-1] = 0
    plain = PlainLoop(model)
    calls: dict[str, tuple[Callable, Episode]] = {
        "plain loop": (lambda: plain(rgb=full.rgb, **full.arguments()), full),
        "first, 1 frame": (start.first, start),
        "first, 8 frames": (full.first, full),
        "following": (full.following, full),
    }
    costs = dict.fromkeys(calls, float("inf"))
    differences = {}
    for _ in range(rounds):
        for name, (call, episode) in calls.items():
            costs[name], found = min_cost(costs[name], call)
            if name not in differences:
                paths, values = plain(rgb=episode.rgb, **episode.arguments())
                far = max((found[0] - paths).abs().max(), (found[1] - values).abs().max())
                differences[name] = far.item()
                assert differences[name] <= 5e-5, f"{name} differs by {differences[name]}"
    print(f"{'one core':<18}{'seconds':>9}{'ratio':>8}{'max |d|':>10}")
    ratios = {name: costs["plain loop"] / cost for name, cost in costs.items()}
    for name, cost in costs.items():
        print(f"{name:<18}{cost:9.2f}{ratios[name]:7.2f}x{differences[name]:10.1e}")
    for name, target in (("first, 8 frames", FIRST), ("following", FOLLOWING)):
        if ratios[name] < target:
            sys.exit(f"{name}: less than {target} times as fast as the plain loop")


def min_cost(cost: float, call: Callable) -> tuple[float, tuple]:
    """The smaller of `cost` and the processor time of a call; and the call's result."""
    start = time.process_time()
    found = call()
    return min(cost, time.process_time() - start), found


def report_latency(model: NavDPModel, num_samples: int, num_calls: int = 100) -> None:
    """Print p50 and p95 of a following call, plain and compiled with CUDA graphs."""
    print(f"{torch.cuda.get_device_name()}, {num_samples} samples; 30 Hz are 33.3 ms per call")
    for mode in ("eager", "compiled"):
        episode = Episode(model, num_samples)
        if mode == "compiled":
            denoiser = model.denoiser
            denoiser.forward = torch.compile(denoiser.forward, mode="reduce-overhead")
        milliseconds = []
        for _ in range(num_calls + 10):
            torch.cuda.synchronize()
            start = time.perf_counter()
            episode.following()
            torch.cuda.synchronize()
            milliseconds.append(1000 * (time.perf_counter() - start))
        cuts = statistics.quantiles(milliseconds[10:], n=20)
        print(f"{mode:<10}p50 {cuts[9]:7.1f} ms   p95 {cuts[18]:7.1f} ms")


if __name__ == "__main__":
    main()
