"""What a robot sees, and instructions."""

import numpy as np

SENTENCES = ("walk past the red table", "turn left and stop", "go to the door at the blue sofa")


def views(seed: int, count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "rgb": rng.integers(0, 256, (24, 32, 3), np.uint8),
            "depth": rng.uniform(0, 5, (24, 32)),
        }
        for _ in range(count)
    ]
