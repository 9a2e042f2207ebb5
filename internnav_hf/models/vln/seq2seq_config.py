"""Configuration of Seq2Seq, the recurrent policy of VLN-CE (arXiv 2004.02857).

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from internnav_hf.models.vln.config import RecurrentVLNConfig


class Seq2SeqConfig(RecurrentVLNConfig):
    """Seq2Seq: the fields of `RecurrentVLNConfig`, and one.

    Fields:
        use_previous_action: whether the previous action is an input of the state.
    """

    model_type = "internnav_seq2seq"

    use_previous_action: bool = False
