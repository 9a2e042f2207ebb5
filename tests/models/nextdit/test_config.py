import pytest
from transformers import Dinov2Config

from internnav_hf.models.nextdit.config import NextDiTConfig


def test_defaults_are_the_published_sizes():
    config = NextDiTConfig()
    assert (config.plan_hidden_size, config.action_horizon, config.image_size) == (3584, 32, 224)
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (
        384,
        12,
        1024,
    )
    assert (config.vision_config.hidden_size, config.vision_config.image_size) == (384, 518)


def test_the_encoder_may_be_a_dict_and_is_a_copy():
    small = {"hidden_size": 32, "num_attention_heads": 4, "patch_size": 14}
    config = NextDiTConfig(vision_config=small, condition_size=64, num_resampler_heads=4)
    assert isinstance(config.vision_config, Dinov2Config)
    assert config.vision_config.hidden_size == 32
    given = Dinov2Config(hidden_size=384, num_attention_heads=6)
    assert NextDiTConfig(vision_config=given).vision_config is not given


def test_round_trip(tmp_path):
    config = NextDiTConfig(action_scale=(2.0, 2.0, 1.0), use_images=False)
    config.save_pretrained(tmp_path)
    again = NextDiTConfig.from_pretrained(tmp_path)
    assert list(again.action_scale) == [2.0, 2.0, 1.0]
    assert again.vision_config.to_dict() == config.vision_config.to_dict()
    assert not again.use_images


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hiden_size": 3}, "Did you mean 'hidden_size'"),
        ({"image_size": 225}, "image_size: found 225, .* multiple of vision_config.patch_size=14"),
        (
            {"condition_size": 700},
            "condition_size: found 700, .*twice vision_config.hidden_size=384",
        ),
        ({"hidden_size": 100}, "hidden_size: found 100, .* multiple of num_attention_heads=6"),
        ({"num_resampler_heads": 7}, "condition_size: found 768, .*num_resampler_heads=7"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NextDiTConfig(**fields)
