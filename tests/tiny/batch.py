"""One batch of System2 as the collator makes it: a pixel goal, a turn and a stop, images of two
sizes.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from internnav_hf.models.system2.dialogue import Answer, training_messages
from tests.tiny.system2 import tiny_processor


def tiny_batch(family: str = "qwen2_5_vl", landmarks: bool = False) -> dict[str, torch.Tensor]:
    """Batch of 3; row 0 looks down at 112x84, the others end with a 56x56 frame."""
    processor = tiny_processor(family)
    rng = np.random.default_rng(0)

    def image(width: int, height: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

    small = [image(56, 56) for _ in range(3)]
    encoded = [
        processor.encode(
            training_messages("Go to the sofa", 1, Answer.of_pixel(50, 40)),
            [*small[:2], image(112, 84)],
        ),
        processor.encode(
            training_messages("Turn left and wait", 2, Answer.of_actions([2, 2])), small
        ),
        processor.encode(training_messages("Stop", 0, Answer.of_actions([0])), small[:1]),
    ]
    batch = {
        key: torch.cat([torch.as_tensor(e[key]) for e in encoded])
        for key in ("pixel_values", "image_grid_thw")
    }
    length = max(len(e["input_ids"]) for e in encoded)
    fill = {"input_ids": processor.pad_token_id, "labels": -100, "mm_token_type_ids": 0}
    for key, value in fill.items():
        rows = [torch.as_tensor(e[key]) for e in encoded]
        batch[key] = torch.stack([F.pad(row, (0, length - len(row)), value=value) for row in rows])
    lengths = torch.tensor([len(e["input_ids"]) for e in encoded])
    batch["attention_mask"] = (torch.arange(length) < lengths[:, None]).long()
    batch["goal_pixel"] = torch.tensor([[50.0, 40.0], [-1.0, -1.0], [-1.0, -1.0]])
    batch["goal_mask"] = torch.tensor([True, False, False])
    batch["answer_class"] = torch.tensor([0, 1, 2])
    if landmarks:
        batch["landmark_mask"] = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(0))
        batch["num_landmark_images"] = torch.tensor([2, 1, 0])
    return batch


def pad_batch(batch: dict[str, torch.Tensor], extra: int) -> dict[str, torch.Tensor]:
    """The same batch with `extra` more padding tokens behind every row."""
    fill = {"input_ids": 0, "labels": -100, "mm_token_type_ids": 0, "attention_mask": 0}
    return batch | {key: F.pad(batch[key], (0, extra), value=value) for key, value in fill.items()}
