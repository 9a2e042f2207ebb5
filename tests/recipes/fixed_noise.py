"""The recipe of the dual system with noise and diffusion times that belong to the sample, so that
runs that share the samples out differently compare. Run as the recipe itself.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from internnav_hf.arguments.training import run_recipe
from internnav_hf.data import DualSystemCollator
from recipes import train_dual_system as recipe

LONGEST = 12  # frames


class FixedNoiseCollator(DualSystemCollator):
    """Adds `noise` (B, T, H, 3) and `timesteps` (B, T), drawn by the sample's content."""

    def __call__(self, samples):
        """The keys are still the arguments of `forward`."""
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


if __name__ == "__main__":
    recipe.DualSystemCollator = FixedNoiseCollator
    kinds = (recipe.ModelArguments, recipe.DataArguments, recipe.DualTrainingArguments)
    run_recipe(recipe.main, kinds, recipe.__doc__)
