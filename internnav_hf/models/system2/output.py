"""Output of System2."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class System2Output(ModelOutput):
    """Output of `System2Model.forward`.

    Losses are means: `language_loss` over label tokens, `pixel_goal_loss` over samples with a goal
    (0 without any), `landmark_loss` over samples with a mask; `pixel_text_loss`, `turn_loss` and
    `stop_loss` are `language_loss` over the samples of one class. `loss_counts` holds the number of
    items each is averaged over. `goal_pixel` (B, 2) is (u, v) in pixels of the look-down image,
    `goal_confidence` (B,), `heatmap` (B, rows, columns) sums to 1 over each image and is 0 beyond
    it. `logits` are (labels, V) when labels are given, else (B, L, V).
    """

    loss: Tensor | None = None
    language_loss: Tensor | None = None
    pixel_goal_loss: Tensor | None = None
    landmark_loss: Tensor | None = None
    pixel_text_loss: Tensor | None = None
    turn_loss: Tensor | None = None
    stop_loss: Tensor | None = None
    logits: Tensor | None = None
    goal_pixel: Tensor | None = None
    goal_confidence: Tensor | None = None
    heatmap: Tensor | None = None
    predicted_ids: Tensor | None = None
    loss_counts: dict[str, Tensor] | None = None
