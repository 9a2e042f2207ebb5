"""Masks fall on the right cells of every image they belong to."""

import torch

from internnav_hf.models.system2.image_tokens import ImageTokens
from internnav_hf.models.system2.landmark_head import LandmarkHead, coverage_of_cells
from internnav_hf.models.system2.pixel_goal_head import cell_centres
from tests.tiny.batch import tiny_batch
from tests.tiny.system2 import tiny_system2


def tokens(rows: list[int], columns: list[int]) -> ImageTokens:
    num_cells = max(r * c for r, c in zip(rows, columns, strict=True))
    rows_, columns_ = torch.tensor(rows), torch.tensor(columns)
    centres, mask = cell_centres(rows_, columns_, num_cells)
    return ImageTokens(torch.randn(len(rows), num_cells, 8), centres, mask, rows_, columns_)


def test_a_mask_is_averaged_over_each_grid_of_its_own():
    mask = torch.zeros(2, 6, 8)
    mask[:, :3, :4] = 1.0  # the upper left quarter
    coverage = coverage_of_cells(mask, tokens([2, 3], [2, 4]))
    assert coverage[0, :4].tolist() == [1, 0, 0, 0]
    assert coverage[0, 4:].sum() == 0
    assert coverage[1].tolist() == [1, 1, 0, 0, 0.5, 0.5, 0, 0, 0, 0, 0, 0]


def test_a_sample_without_cells_has_no_loss():
    image = tokens([2, 2], [2, 2])
    image.mask[1] = False
    losses = LandmarkHead(8)(image, torch.rand(2, 6, 8))
    assert losses[0] > 0
    assert losses[1] == 0


def test_the_loss_is_a_mean_over_the_images_that_masks_belong_to():
    model, batch = tiny_system2(landmark_loss_weight=1.0), tiny_batch(landmarks=True)
    output = model(**batch)
    assert output.loss_counts["landmark_loss"] == 3  # two of sample 0, one of sample 1
    batch["num_landmark_images"] = torch.zeros(3, dtype=torch.long)
    without = model(**batch)
    assert without.landmark_loss == 0
    difference = output.loss - without.loss
    torch.testing.assert_close(difference, output.landmark_loss, atol=1e-5, rtol=1e-5)
