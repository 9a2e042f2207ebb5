"""Semantic images of ViPlanner's classes, by a panoptic Mask2Former of transformers.

    rgb -> panoptic segments of COCO's 133 classes -> ViPlanner's class of each -> its colour

Published is the Mask2Former of mmdetection with a ResNet-50, for which transformers has no weights.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from internnav_hf.models.planners.semantics import class_named, coco_to_class
from internnav_hf.models.planners.views import UNKNOWN_CLASS
from internnav_hf.weights.loading import check_is_checkpoint


class Mask2FormerSegmenter:
    """`segmenter` of a `ViPlannerPolicy`: colours (H, W, 3) uint8 of the classes in a view.

    `path` is a folder or Hub name of a model for COCO's panoptic classes. `by_substring` takes
    the published table, see `semantics`. Raises ValueError for a model of other classes.
    """

    def __init__(self, path: str, by_substring: bool = False, device: Any = None):
        # slow to import
        from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

        if not Path(path).is_dir():
            check_is_checkpoint("segmenter:", path)
        loaded: Any = Mask2FormerForUniversalSegmentation.from_pretrained(path)
        self.model = loaded.to(device or "cpu").eval()
        self.processor = AutoImageProcessor.from_pretrained(path)
        table = coco_to_class(by_substring)
        names: dict[int, str] = self.model.config.id2label
        unknown = sorted(set(names.values()) - table.keys())
        if unknown:
            found = f"{len(unknown)} classes that are none of COCO's, such as {unknown[0]!r}"
            raise ValueError(f"{path}: found {found}, expected a panoptic model of COCO.")
        self.colours = np.full((max(names) + 1, 3), UNKNOWN_CLASS, np.uint8)
        for number, name in names.items():
            self.colours[number] = class_named(table[name]).colour

    @torch.no_grad()
    def __call__(self, rgb: Any) -> np.ndarray:
        """Colours (H, W, 3) of the classes in a picture; black where there is no segment."""
        image = rgb if isinstance(rgb, Image.Image) else Image.fromarray(np.asarray(rgb))
        inputs = self.processor(images=image, return_tensors="pt").to(self.model.device)
        outputs = self.model(**inputs)
        (found,) = self.processor.post_process_panoptic_segmentation(
            outputs, target_sizes=[image.size[::-1]]
        )
        numbers = found["segmentation"].cpu().numpy().astype(np.int64)
        colours = np.full((*numbers.shape, 3), UNKNOWN_CLASS, np.uint8)
        for segment in found["segments_info"]:
            colours[numbers == segment["id"]] = self.colours[segment["label_id"]]
        return colours
