"""Under ZeRO-3: `test_lora_under_zero3_saves_whole_tensors` of train_system2.py's tests."""

import torch
from torch.testing import assert_close

from internnav_hf.training.lora import merge_lora
from internnav_hf.training.tuning import add_lora
from tests.tiny.batch import tiny_batch
from tests.tiny.system2 import tiny_system2


def adapted():
    torch.manual_seed(0)
    model = add_lora(tiny_system2(), rank=2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@torch.no_grad()
def test_the_merged_model_says_what_the_adapted_one_said():
    model, batch = adapted(), tiny_batch()
    expected = model(**batch).loss
    merged, weights = merge_lora(model, is_shared=False, is_main=True)
    assert weights is None
    assert_close(merged(**batch).loss, expected)


@torch.no_grad()
def test_weights_put_together_are_those_of_the_merged_model():
    weights = merge_lora(adapted(), is_shared=True, is_main=True)[1]
    expected = merge_lora(adapted(), is_shared=False, is_main=True)[0].state_dict()
    assert weights is not None
    tied = {name for name in expected if name not in weights}
    assert all("lm_head" in name for name in tied)
    for name, value in weights.items():
        assert_close(value, expected[name])
    assert merge_lora(adapted(), is_shared=True, is_main=False)[1] == {}
