"""Samples in one row without padding: the same losses and gradients, and none sees another."""

import pytest
import torch

from tests.tiny.batch import pad_batch, tiny_batch
from tests.tiny.system2 import FAMILIES, tiny_system2

FIELDS = {"pixel_goal_loss_weight": 1.0, "landmark_loss_weight": 0.5}


def loss_and_gradients(model, batch):
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    return output, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_padded_samples(family, checkpointing):
    model = tiny_system2(family, **FIELDS)
    batch = pad_batch(tiny_batch(family, landmarks=True), 2)
    expected, gradients = loss_and_gradients(model, batch)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    model.drop_padding()
    found, found_gradients = loss_and_gradients(model, batch)
    for name in ("loss", "language_loss", "pixel_goal_loss", "landmark_loss", "goal_pixel"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)
    assert found_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, atol=1e-5, rtol=1e-5, msg=name)


def changes_of_logits(model, batch) -> list[float]:
    """Largest change of each sample's logits if a word and an image of the first one change."""
    batch = {key: value for key, value in batch.items() if key != "labels"}
    changed = {key: value.clone() for key, value in batch.items()}
    changed["input_ids"][0, 3] += 1
    changed["pixel_values"][:16] += 1.0
    with torch.no_grad():
        change = (model(**batch).logits - model(**changed).logits).abs()
    lengths = batch["attention_mask"].sum(1)
    return [change[row, :length].max().item() for row, length in enumerate(lengths)]


@pytest.mark.parametrize("family", FAMILIES)
def test_no_sample_sees_its_neighbour(family):
    model = tiny_system2(family)
    model.drop_padding()
    first, *others = changes_of_logits(model, tiny_batch(family))
    assert first > 1e-3
    assert others == [0, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_that_would_be_noticed(family, monkeypatch):
    """Without the restart of positions all samples are one to the attention."""
    model = tiny_system2(family)
    model.drop_padding()
    whole = model.vlm.model.forward

    def forward(position_ids, **inputs):
        position_ids[0, 0] = torch.arange(position_ids.shape[2])
        return whole(position_ids=position_ids, **inputs)

    monkeypatch.setattr(model.vlm.model, "forward", forward)
    assert min(changes_of_logits(model, tiny_batch(family))) > 1e-5


def test_blocks_are_what_the_block_diagonal_mask_gives():
    model, batch = tiny_system2(), tiny_batch()
    model.drop_padding()
    found = model(**batch)
    model.vlm.model.language_model.set_attn_implementation("sdpa")  # transformers' own mask
    torch.testing.assert_close(found.loss, model(**batch).loss, atol=1e-6, rtol=1e-6)


def test_only_attention_that_knows_rows_is_taken(tmp_path):
    model = tiny_system2()
    model.vlm.set_attn_implementation("eager")
    with pytest.raises(ValueError, match="found eager, expected sdpa or flash_attention_2"):
        model.drop_padding()
    model.vlm.set_attn_implementation("sdpa")
    model.drop_padding()
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert not again.drops_padding
    assert again.vlm.model.language_model.config._attn_implementation == "sdpa"
