"""Shared by the diffusion policies: the channels of an action, and the noise schedule."""

from diffusers import DDIMScheduler
from torch import Tensor

NUM_ACTION_CHANNELS = 3  # dx, dy, dyaw


def noise_schedule(num_steps: int) -> DDIMScheduler:
    """NavDP's DDPM: squared cosine, predicts noise, clips to [-1, 1].

    diffusers' DDIM with eta 1 takes the same ancestral steps as its DDPM, and accepts their noise
    as an argument. Made when needed, because inside `from_pretrained` its tables would be empty.
    """
    return DDIMScheduler(num_steps, beta_schedule="squaredcos_cap_v2", clip_sample=True)


def ancestral_step(
    schedule: DDIMScheduler, predicted: Tensor, timestep: int, sample: Tensor, noise: Tensor
) -> Tensor:
    """`sample` after the DDPM's step at `timestep`, given the `predicted` noise in it and the new
    `noise`; all of one shape.
    """
    settings = {"eta": 1.0, "use_clipped_model_output": True, "variance_noise": noise}
    return schedule.step(predicted, timestep, sample, **settings).prev_sample
