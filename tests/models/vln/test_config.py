"""Configurations of Seq2Seq and CMA: published defaults, and what is refused."""

import pytest
from transformers import AutoConfig, ResNetConfig

from internnav_hf.models.vln.config import CMAConfig, Seq2SeqConfig

CONFIGS = [Seq2SeqConfig, CMAConfig]


@pytest.mark.parametrize("config_class", CONFIGS)
def test_defaults_are_the_published_ones(config_class):
    config = config_class()
    assert config.rgb_config.hidden_sizes == [256, 512, 1024, 2048]
    assert (config.vocab_size, config.embedding_size, config.hidden_size) == (2504, 50, 512)
    assert not config.train_rgb_encoder
    assert config.batch_norm_mode == "running"


@pytest.mark.parametrize("config_class", CONFIGS)
def test_it_is_saved_and_loaded(config_class, tmp_path):
    rgb = {"hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
    config = config_class(rgb_config=rgb, image_mean=(0, 0, 0), image_std=(1, 1, 1))
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path, hidden_size=64)
    assert type(loaded) is config_class
    assert isinstance(loaded.rgb_config, ResNetConfig)
    assert loaded.rgb_config.hidden_sizes == [8]
    assert loaded.hidden_size == 64
    again = {**loaded.to_dict(), "hidden_size": 512, "_name_or_path": ""}
    assert again == config.to_dict()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hiden_size": 4}, "Did you mean 'hidden_size'"),
        ({"batch_norm_mode": "frozen"}, "batch_norm_mode: found 'frozen', expected one of"),
        ({"instruction_rnn_type": "LSTM"}, "instruction_rnn_type: found 'LSTM', expected one of"),
        ({"ablated_inputs": ["sound"]}, r"ablated_inputs: found \('sound',\), expected some of"),
        ({"image_mean": (0.5, 0.5, 0.5)}, "image_std: found None, expected"),
        ({"depth_base_planes": 5}, "depth_base_planes: found 5, expected an even number"),
        ({"max_depth": 0}, "max_depth: found 0, expected metres"),
        ({"vocab_size": 0}, "vocab_size: found 0"),
    ],
)
def test_what_makes_no_model_is_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        Seq2SeqConfig(**fields)


def test_cma_halves_its_state():
    with pytest.raises(ValueError, match="hidden_size: found 15, expected even"):
        CMAConfig(hidden_size=15)


def test_the_configuration_of_another_model_is_refused(tmp_path):
    CMAConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a checkpoint of internnav_cma, expected internnav_seq2"):
        Seq2SeqConfig.from_pretrained(tmp_path)
