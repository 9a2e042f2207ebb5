"""Words become their published numbers, views the model's squares, and both survive saving."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from transformers import AutoTokenizer, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from internnav_hf.models.vln import processor as vln_processor
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer

GOLDEN = Path(__file__).parents[2] / "golden"
WORDS = ["walk", "past", "the", "chair", "it", "s", "t"]


@pytest.fixture(autouse=True)
def _nothing_told_yet():
    """A cut is told once a process, and other files' tests cut too."""
    vln_processor._warn_of_cut.cache_clear()


def processor(**settings) -> VLNProcessor:
    return VLNProcessor(word_tokenizer(WORDS), **settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Walk past the chair", [2, 3, 4, 5]),
        ("  walk,past? THE.chair.\n", [1, 4, 5]),  # ',' and '?' leave no gap
        ("It's the T-chair, zebra!", [6, 7, 4, 8, 5, 1]),
        ("Walk , past ? the", [2, 3, 4]),
    ],
)
def test_words_get_their_numbers_by_the_published_rule(text, expected):
    assert processor().encode_instructions([text]).tolist() == [expected]


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's, with those of its 48,894 merges that the golden texts need, and their numbers."""
    letters = list(bytes_to_unicode().values())
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    vocabulary |= {f"{letter}</w>": 256 + index for index, letter in enumerate(letters)}
    merges = json.loads((GOLDEN / "clip_merges.json").read_text())["merges"]
    vocabulary |= {left + right: index for left, right, index in merges}
    vocabulary |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    return CLIPTokenizer(vocab=vocabulary, merges=[(left, right) for left, right, _ in merges])


def test_clips_tokens_equal_long_clips():
    """Padded with 0, not with CLIP's own padding; without text they have none to follow."""
    texts = json.loads((GOLDEN / "longclip_tokenize.json").read_text())["strings"]
    expected = load_file(GOLDEN / "longclip_tokenize.safetensors")["out.tokens"]
    spoken = [index for index, text in enumerate(texts) if text]
    long = VLNProcessor(clip_tokenizer(), max_length=248)
    ids = long.encode_instructions([texts[index] for index in spoken])
    np.testing.assert_array_equal(ids, expected[spoken, : ids.shape[1]])
    assert not expected[spoken, ids.shape[1] :].any()
    with pytest.raises(ValueError, match="instruction: found ''"):
        long.encode_instructions(texts)
    cut = VLNProcessor(clip_tokenizer(), max_length=5).encode_instructions(texts[:1])
    assert cut.tolist() == [[*expected[0, :4], 49407]]


def test_marks_are_tokens_where_the_vocabulary_has_them():
    tokenizer = word_tokenizer(["<pad>", "<unk>", "walk", ".", "chair"])
    ids = tokenizer("Walk. Chair? unheard-of")["input_ids"]
    assert ids == [2, 3, 4, 1, 1, 1]


def test_rows_are_padded_with_zeros_to_the_longest():
    ids = processor().encode_instructions(["walk", "walk past the chair"])
    assert ids.dtype == np.int64
    assert ids.tolist() == [[2, 0, 0, 0], [2, 3, 4, 5]]


def test_long_instructions_are_cut_with_one_warning(caplog):
    cutting = processor(max_length=3)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert cutting.encode_instructions(["walk past the chair"]).tolist() == [[2, 3, 4]]
    assert [record.message for record in caplog.records] == ["Instructions are cut after 3 tokens."]


def test_a_cut_is_told_where_marks_of_start_and_end_take_the_place(caplog):
    text = "the " * 5
    for max_length, warnings in ((7, []), (6, ["Instructions are cut after 6 tokens."])):
        with caplog.at_level(logging.WARNING):
            ids = VLNProcessor(clip_tokenizer(), max_length=max_length).encode_instructions([text])
        assert ids.shape == (1, max_length)
        assert [record.message for record in caplog.records] == warnings


@pytest.mark.parametrize("text", ["", " ,? ", "...", "zebra crossing"])
def test_an_instruction_without_a_known_word_is_an_error_that_shows_it(text):
    with pytest.raises(ValueError, match="instruction: found") as error:
        processor().encode_instructions(["walk", text])
    assert repr(text) in str(error.value)


def test_what_is_no_word_does_not_shift_the_others():
    for special in ([], ["<pad>", "<unk>"], ["<PAD>", "<UNK>"]):
        assert word_tokenizer([*special, "walk", "past"])("past")["input_ids"] == [3]
    for words in (
        ["walk", "<unk>", "<pad>"],
        ["<unk>", "walk"],
        ["<unk>", "<pad>"],
        ["<pad>", "walk"],
    ):
        with pytest.raises(ValueError, match="words: found .*, expected <pad> at 0 and <unk> at 1"):
            word_tokenizer(words)


def test_a_word_twice_is_an_error():
    with pytest.raises(ValueError, match="'walk' twice"):
        word_tokenizer(["walk", "past", "walk"])


def test_the_tokenizer_survives_saving(tmp_path):
    word_tokenizer(WORDS).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("Walk past, zebra")["input_ids"] == [2, 3, 1]
    assert (loaded.pad_token_id, loaded.unk_token_id) == (0, 1)


def test_settings_survive_saving(tmp_path):
    settings = {"image_size": 64, "depth_size": 32, "resize": "clip", "max_length": 5}
    settings["camera"] = {"height_m": 0.6}
    processor(**settings).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "processor_config.json").read_text())
    assert set(stored) == {*settings, "processor_class"}
    loaded = VLNProcessor.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in settings} == settings
    text = ["walk past the chair it s"]
    assert loaded.encode_instructions(text).tolist() == [[2, 3, 4, 5, 6]]


def test_views_of_the_right_size_are_only_turned():
    rgb = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    encoded = processor(image_size=8).encode_rgb(rgb)
    np.testing.assert_array_equal(encoded, np.moveaxis(rgb, -1, -3))
    assert encoded.flags.c_contiguous


def test_the_square_is_squeezed_or_cut_out_of_the_middle():
    stripes = np.zeros((20, 40, 3), np.uint8)
    stripes[:, 10:30] = 200
    squeezed = processor(image_size=20).encode_rgb(stripes)
    assert squeezed.shape == (3, 20, 20)
    assert (squeezed[:, :, :4] == 0).all()
    assert (squeezed[:, :, 7:13] == 200).all()
    cut = processor(image_size=20, resize="clip").encode_rgb(Image.fromarray(stripes))
    assert (cut == 200).all()


def test_clip_resizes_as_pillow_does():
    """By the shorter side, the longer one rounded down, bicubic; then the middle."""
    rgb = np.random.default_rng(0).integers(0, 256, (31, 47, 3), np.uint8)
    whole = np.asarray(Image.fromarray(rgb).resize((24, 16), Image.Resampling.BICUBIC))
    expected = np.moveaxis(whole[:, 4:20], -1, 0)
    found = processor(image_size=16, resize="clip").encode_rgb(rgb[None])
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("resize", ["bilinear", "clip"])
def test_depth_follows_the_colours_and_invents_nothing(resize):
    """Nearest pixels of the same window; what is unknown becomes 0."""
    depth = np.arange(40, dtype=np.float64).reshape(4, 10)
    depth[0, 0], depth[1, 1], depth[2, 2], depth[3, 9] = np.inf, np.nan, -1, 39.0
    encoded = processor(depth_size=4, resize=resize).encode_depth(depth[None])
    columns = [1, 3, 6, 8] if resize == "bilinear" else [3, 4, 5, 6]
    expected = depth[:, columns]
    expected[~np.isfinite(expected)] = 0
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded[0], np.maximum(expected, 0))
    everything = processor(depth_size=10, resize="bilinear").encode_depth(depth)
    assert np.isfinite(everything).all()
    assert everything.min() == 0


def test_wrong_views_are_one_clear_error():
    with pytest.raises(ValueError, match=r"rgb: found float64 .* expected uint8"):
        processor().encode_rgb(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"depth: found shape \(4,\)"):
        processor().encode_depth(np.zeros(4))
    with pytest.raises(ValueError, match="resize: found 'bicubic'"):
        processor(resize="bicubic")


@pytest.mark.parametrize("name", ["<pad>", "<unk>", "<PAD>", "<pa<pad>d>"])
def test_names_of_the_word_lists_tokens_are_words(name):
    """No padding and no token in the midst of an instruction."""
    ids = processor().encode_instructions([f"walk {name} the chair"])[0].tolist()
    assert (ids[0], ids[-2:]) == (2, [4, 5])
    assert 0 not in ids


def test_names_of_clips_tokens_are_words():
    tokenizer = clip_tokenizer()
    clip = VLNProcessor(tokenizer, max_length=77)
    ids = clip.encode_instructions(["go <|endoftext|> to <|STARTOFTEXT|> the chair"])[0].tolist()
    special = set(tokenizer.added_tokens_decoder)
    assert [i in special for i in ids] == [True, *[False] * (len(ids) - 2), True]
