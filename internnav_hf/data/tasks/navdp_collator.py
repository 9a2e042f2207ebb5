"""NavDP's batches."""

from collections.abc import Sequence

import torch
from torch import Tensor


class NavDPCollator:
    """Samples to one batch.

    Two samples of 8 frames at 224x224 pixels and 24 steps, the first four frames into its walk:

        rgb                (2, 8, 3, 224, 224)  uint8    oldest first; 6 zeros in the first
        depth              (2, 224, 224)        float32  metres, 0.1 to 5; 0 unknown
        goal_point         (2, 3)               float32  [[2.4, 0.7, 0.5], [0.6, 0, 0]] m, m, rad
        goal_image         (2, 6, 224, 224)     uint8    the view at the goal, the current one
        goal_pixel_map     (2, 4, 224, 224)     uint8    the view where it was marked, the mask
        goal_slots         (2, 3)               int64    [[0, 2, 1], [1, 1, 0]] point, image, pixel
        actions            (2, 24, 3)           float32  dx, dy in metres, dyaw in radians
        perturbed_actions  (2, 24, 3)           float32  the same path, turned aside
        value              (2,)                 float32  [-0.2, 0.1] of the path
        perturbed_value    (2,)                 float32  [-3.1, 0.2] of the perturbed path
        sample_mask        (2,)                 bool     True

    With 7 channels the current view ends `goal_pixel_map`. `channel_order="bgr"` turns the colours
    of every view, as weights of the NavDP repository want them. With the model's `action_scale`,
    paths whose steps are mostly longer than diffusion can go (0.25 m with the published 4) are a
    ValueError: they would train without a word, and never be sampled.
    """

    def __init__(self, channel_order: str = "rgb", action_scale: Sequence[float] | None = None):
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order is {channel_order!r}; it must be 'rgb' or 'bgr'")
        self.channel_order = channel_order
        self.longest_step_m = None if action_scale is None else 1 / action_scale[0]

    def __call__(self, samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The keys are the arguments of `NavDPModel.forward`."""
        for position, sample in enumerate(samples):
            _check_sample(position, sample, samples[0])
        batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
        if self.longest_step_m is not None:
            _check_steps(batch["actions"], self.longest_step_m)
        if self.channel_order == "bgr":
            for key in ("rgb", "goal_image", "goal_pixel_map"):
                batch[key] = _reversed(batch[key])
        return batch | {"sample_mask": torch.ones(len(samples), dtype=torch.bool)}


def _reversed(views: Tensor) -> Tensor:
    """Views (..., C, S, S) with the order of each three channels turned; a mask is channel 3."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3], 6: [2, 1, 0, 5, 4, 3], 7: [2, 1, 0, 3, 6, 5, 4]}
    return views[..., order[views.shape[-3]], :, :]


def _check_steps(actions: Tensor, longest_m: float) -> None:
    lengths = actions[..., :2].norm(dim=-1)
    lengths = lengths[lengths > 0]
    if len(lengths) and lengths.median() > 1.1 * longest_m:
        raise ValueError(
            f"actions: found steps of {lengths.median():.2f} m, expected at most {longest_m:.2f} m,"
            " as far as diffusion goes with this action_scale. Pass a smaller action_stride."
        )


def _check_sample(position: int, sample: dict[str, Tensor], first: dict[str, Tensor]) -> None:
    shapes, wanted = ({key: tuple(s[key].shape) for key in s} for s in (sample, first))
    if shapes != wanted:
        raise ValueError(
            f"sample {position} of the batch: found {shapes}, expected the keys and shapes of"
            f" sample 0, {wanted}"
        )
