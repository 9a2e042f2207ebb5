"""The recipe of Seq2Seq, CMA and RDP with draws that belong to the walk, so that runs that share
the walks out differently compare. Run as the recipe itself.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from internnav_hf.arguments.training import run_recipe
from internnav_hf.data import VLNCollator
from recipes import train_vln as recipe

NUM_TIMESTEPS = 10  # of the tiny RDP
DROPS = ("image_drop", "condition_drop")


class FixedNoiseCollator(VLNCollator):
    """Adds RDP's `noise` (B, T, H, 3), `timesteps` and both drops (B, T), by the walk's content."""

    def __call__(self, samples):
        """The keys are still the arguments of `forward`."""
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


if __name__ == "__main__":
    recipe.VLNCollator = FixedNoiseCollator
    kinds = (
        recipe.StartArguments,
        recipe.VLNDataArguments,
        recipe.DaggerArguments,
        recipe.VLNTrainingArguments,
    )
    run_recipe(recipe.main, kinds, recipe.__doc__)
