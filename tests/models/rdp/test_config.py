"""A configuration of RDP is whole, or there is one error."""

import pytest

from internnav_hf.models.rdp.config import RDPConfig
from tests.tiny.rdp import tiny_rdp_config


def test_defaults_are_long_clip_b_and_real_masking():
    config = RDPConfig()
    assert config.text_config.max_position_embeddings == 248
    assert (config.text_config.hidden_size, config.vision_config.hidden_size) == (512, 768)
    assert (config.vision_config.patch_size, config.vision_config.image_size) == (16, 224)
    assert (config.guidance_mask, config.padded_loss, config.loss_epsilon) == ("drop", False, 0)
    assert config.state_updates_per_decision == 1


def test_it_survives_saving(tmp_path):
    config = tiny_rdp_config(displacement_max=(0.3, 0.3, 0.5))
    config.save_pretrained(tmp_path)
    loaded = RDPConfig.from_pretrained(tmp_path, stop_loss_weight=2.0)
    assert loaded.displacement_max == (0.3, 0.3, 0.5)
    assert loaded.text_config.vocab_size == 60
    assert loaded.stop_loss_weight == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"horizon": 4}, "no field 'horizon'"),
        ({"action_horizon": 0}, "action_horizon"),
        ({"guidance_mask": "add"}, "guidance_mask"),
        ({"hidden_size": 64}, "hidden_size"),
        ({"image_size": 36}, "image_size"),
        ({"vision_config": {"image_size": 64}}, r"vision_config\.image_size"),
        ({"displacement_max": (0.25, 0.25)}, "displacement_max"),
        ({"displacement_max": (0.25, -0.5, 0.27)}, "displacement_max"),
        ({"num_denoiser_attention_heads": 3}, "num_denoiser_attention_heads"),
        ({"state_updates_per_decision": 3}, "state_updates_per_decision"),
        ({"image_mean": None}, "image_std"),
        ({"view_drop_share": 2.0}, "view_drop_share"),
        ({"max_depth": 0.0}, "max_depth"),
        ({"depth_base_planes": 3}, "depth_base_planes"),
    ],
)
def test_sizes_that_do_not_go_together_are_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_rdp_config(**fields)
