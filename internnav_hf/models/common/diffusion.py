"""Shared by the diffusion policies: the channels of an action, and the noise schedule."""

from diffusers import DDIMScheduler

NUM_ACTION_CHANNELS = 3  # dx, dy, dyaw


def noise_schedule(num_steps: int) -> DDIMScheduler:
    """NavDP's DDPM: squared cosine, predicts noise, clips to [-1, 1].

    diffusers' DDIM with eta 1 takes the same ancestral steps as its DDPM, and accepts their noise
    as an argument. Made when needed, because inside `from_pretrained` its tables would be empty.
    """
    return DDIMScheduler(num_steps, beta_schedule="squaredcos_cap_v2", clip_sample=True)
