"""Segments on the cache equal one pass; nothing is read twice."""

import torch

from internnav_hf.models.system2.session import System2Session
from tests.tiny.system2 import tiny_processor, tiny_system2


def _segments(*texts: str) -> list[dict]:
    processor = tiny_processor()
    return [processor.encode_text(text, []) for text in texts]


def test_segments_of_unequal_length_equal_one_pass_over_each_row():
    model = tiny_system2()
    session = System2Session(model)
    session.extend(_segments("Go to the sofa", "Stop"))
    session.extend(_segments(" now", " when you have passed the table"))
    whole = _segments("Go to the sofa now", "Stop when you have passed the table")
    for row, segment in enumerate(whole):
        ids = torch.as_tensor(segment["input_ids"])[None]
        parts = [
            _segments(a, b)
            for a, b in [("Go to the sofa", " now"), ("Stop", " when you have passed the table")]
        ]
        assert sum(len(part["input_ids"]) for part in parts[row]) == ids.shape[1]
        logits = model(ids).logits[0, -1]
        torch.testing.assert_close(
            model.vlm.lm_head(session.last_hidden[row]), logits, atol=1e-5, rtol=0
        )


def test_selected_rows_go_on_as_if_they_had_been_alone():
    model = tiny_system2()
    together, alone = System2Session(model), System2Session(model)
    together.extend(_segments("Go", "Turn left at the green door", "Stop"))
    together.select([1]).extend(_segments(" and wait"))
    alone.extend(_segments("Turn left at the green door"))
    alone.extend(_segments(" and wait"))
    torch.testing.assert_close(together.last_hidden, alone.last_hidden, atol=1e-5, rtol=0)


def test_rows_that_have_ended_stay_as_they_were():
    model = tiny_system2()
    ends = System2Session(model)
    ends.extend(_segments("Go to the sofa", "Stop"))
    before = ends.last_hidden.clone()
    first = model.vlm.lm_head(before).argmax(-1)
    if first[0] == first[1]:  # then ending one would end both
        ends.last_hidden[1] = -ends.last_hidden[1]
        before = ends.last_hidden.clone()
        first = model.vlm.lm_head(before).argmax(-1)
    answers = ends.generate({int(first[0])}, max_new_tokens=3)
    assert answers[0] == []
    assert len(answers[1]) >= 1
    torch.testing.assert_close(ends.last_hidden[0], before[0])
    assert ends.attention_mask[0, -1] == 0
