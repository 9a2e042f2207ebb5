import pytest

from internnav_hf import System2Config
from internnav_hf.models.config_checks import refuse_unknown


def test_an_unknown_field_is_refused_with_the_nearest_one():
    with pytest.raises(
        ValueError, match=r"no field 'head_hiden_size'. Did you mean 'head_hidden_size'"
    ):
        refuse_unknown(System2Config, {"head_hiden_size": 3})


def test_what_transformers_hands_over_is_accepted():
    refuse_unknown(System2Config, {"model_type": "x", "_name": 1, "max_length": 20})
