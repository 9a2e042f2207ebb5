"""Collators whose noise and diffusion times belong to the sample, so that runs that share the
samples out differently compare. The keys are still the arguments of `forward`.
"""

import torch

from internnav_hf.data import (
    DualSystemCollator,
    ImageGoalCollator,
    NavDPCollator,
    VLNCollator,
)

LONGEST = 12  # frames of a dual system's sample
NUM_TIMESTEPS = 10  # of the tiny NavDP and RDP
DROPS = ("image_drop", "condition_drop")


class FixedDualSystemCollator(DualSystemCollator):
    """Adds `noise` (B, T, H, 3) and `timesteps` (B, T), drawn by the sample's content."""

    def __call__(self, samples):
        batch = super().__call__(samples)
        num_frames, horizon = batch["actions"].shape[1:3]
        noise, timesteps = [], []
        for sample in samples:
            seed = int(abs(sample["actions"]).sum() * 1e6) + len(sample["input_ids"])
            generator = torch.Generator().manual_seed(seed)
            noise.append(torch.randn(LONGEST, horizon, 3, generator=generator)[:num_frames])
            times = torch.randint(1, 20, (LONGEST,), generator=generator)
            timesteps.append(times[:num_frames])
        return batch | {"noise": torch.stack(noise), "timesteps": torch.stack(timesteps)}


class FixedImageGoalCollator(ImageGoalCollator):
    """Adds NoMaD's `noise` (B, H, 2) and `timesteps` (B,), drawn by the sample's content."""

    def __call__(self, samples):
        noise, timesteps = [], []
        for sample in samples:
            seed = int(sample["actions"].abs().sum() * 1e6) + int(sample["distance"])
            generator = torch.Generator().manual_seed(seed)
            noise.append(torch.randn(sample["actions"].shape, generator=generator))
            timesteps.append(torch.randint(NUM_TIMESTEPS, (), generator=generator))
        fixed = {"noise": torch.stack(noise), "timesteps": torch.stack(timesteps)}
        return super().__call__(samples) | fixed


class FixedNavDPCollator(NavDPCollator):
    """Adds `noise` (B, 2, H, 3) and `timesteps` (B, 2), drawn by the sample's content."""

    def __call__(self, samples):
        noise, timesteps = [], []
        for sample in samples:
            seed = int(sample["perturbed_actions"].abs().sum() * 1e6)
            generator = torch.Generator().manual_seed(seed)
            noise.append(torch.randn(2, *sample["actions"].shape, generator=generator))
            timesteps.append(torch.randint(NUM_TIMESTEPS, (2,), generator=generator))
        fixed = {"noise": torch.stack(noise), "timesteps": torch.stack(timesteps)}
        return super().__call__(samples) | fixed


class FixedVLNCollator(VLNCollator):
    """Adds RDP's `noise` (B, T, H, 3), `timesteps` and both drops (B, T), by content."""

    def __call__(self, samples):
        batch = super().__call__(samples)
        if "displacements" not in batch:
            return batch
        shape = batch["displacements"].shape
        draws = {
            "noise": torch.zeros(shape),
            "timesteps": torch.zeros(shape[:2], dtype=torch.int64),
        }
        draws |= {name: torch.zeros(shape[:2], dtype=torch.bool) for name in DROPS}
        for row, sample in enumerate(samples):
            length, *rest = sample["displacements"].shape
            content = float(abs(sample["relative_pose"]).sum()) + sample["instruction_ids"].sum()
            generator = torch.Generator().manual_seed(int(content * 1e4))
            draws["noise"][row, :length] = torch.randn(length, *rest, generator=generator)
            draws["timesteps"][row, :length] = torch.randint(
                NUM_TIMESTEPS, (length,), generator=generator
            )
            for name in DROPS:
                draws[name][row, :length] = torch.rand(length, generator=generator) < 0.25
        return batch | draws
