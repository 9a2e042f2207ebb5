"""`encoders` and `unused` are for what others released; each model says how it converts that."""

import pytest

from internnav_hf.models.rdp.model import RDPModel
from internnav_hf.models.vln.follower import FollowerModel
from internnav_hf.models.vln.seq2seq import Seq2SeqModel
from tests.tiny.rdp import tiny_rdp
from tests.tiny.vln import tiny_seq2seq


@pytest.mark.parametrize(("make", "model"), [(tiny_rdp, RDPModel), (tiny_seq2seq, Seq2SeqModel)])
@pytest.mark.parametrize("given", [{"encoders": {"rgb_encoder": "file"}}, {"unused": ("a.",)}])
def test_a_checkpoint_of_ours_has_all_and_nothing_else(make, model, given, tmp_path):
    make().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="are for released weights"):
        model.from_pretrained(tmp_path, **given)


def test_it_is_the_base_of_all_three():
    assert issubclass(RDPModel, FollowerModel)
    assert issubclass(Seq2SeqModel, FollowerModel)
