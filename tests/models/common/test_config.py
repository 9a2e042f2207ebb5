import pytest

from internnav_hf import CMAConfig, NavDPConfig, RDPConfig, System2Config
from internnav_hf.models.common.config import refuse_unknown


def test_an_unknown_field_is_refused_with_the_nearest_one():
    with pytest.raises(
        ValueError, match=r"no field 'head_hiden_size'. Did you mean 'head_hidden_size'"
    ):
        refuse_unknown(System2Config, {"head_hiden_size": 3})


def test_what_transformers_hands_over_is_accepted():
    refuse_unknown(System2Config, {"model_type": "x", "_name": 1, "max_length": 20})


@pytest.mark.parametrize("config_class", [NavDPConfig, RDPConfig, CMAConfig, System2Config])
def test_what_is_stored_of_another_kind_is_one_clear_error(config_class):
    with pytest.raises(ValueError, match=f"checkpoint of bert, expected {config_class.model_type}"):
        config_class.from_dict({"model_type": "bert"})


def test_a_documented_name_gets_the_right_hint():
    with pytest.raises(ValueError, match="no field 'memory_size'.*'num_memory_frames'"):
        NavDPConfig(memory_size=8)
