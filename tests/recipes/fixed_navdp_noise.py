"""NavDP's recipe with noise and diffusion times that belong to the sample, so that runs that share
the samples out differently compare. Run as the recipe itself.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from internnav_hf.arguments.training import run_recipe
from internnav_hf.data import NavDPCollator
from recipes import train_navdp as recipe


class FixedNoiseCollator(NavDPCollator):
    """Adds `noise` (B, 2, H, 3) and `timesteps` (B, 2), drawn by the sample's content."""

    def __call__(self, samples):
        """The keys are still the arguments of `forward`."""
        noise, timesteps = [], []
        for sample in samples:
            seed = int(sample["perturbed_actions"].abs().sum() * 1e6)
            generator = torch.Generator().manual_seed(seed)
            noise.append(torch.randn(2, *sample["actions"].shape, generator=generator))
            timesteps.append(torch.randint(10, (2,), generator=generator))
        fixed = {"noise": torch.stack(noise), "timesteps": torch.stack(timesteps)}
        return super().__call__(samples) | fixed


if __name__ == "__main__":
    recipe.NavDPCollator = FixedNoiseCollator
    kinds = (recipe.ModelArguments, recipe.DataArguments, recipe.NavDPTrainingArguments)
    run_recipe(recipe.main, kinds, recipe.__doc__)
