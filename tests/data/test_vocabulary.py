import gzip
import json

import pytest

from internnav_hf.data.vocabulary import learn_words, read_vocabulary, recover_words, split_words
from internnav_hf.models.vln.processor import word_tokenizer

TEXTS = [
    "Walk past the red chair, then stop.",
    "Turn left. Walk to the far door; is it the chef's?",
    "Stop at the second chair - the red one!",
    "Go on",
]


def ids_of(words, marks=False):
    """Stored ids of the texts, and one row that was cut."""
    rows = [
        [words.index(word) if word in words else 1 for word in split_words(text, marks)]
        for text in TEXTS
    ]
    rows[3] = rows[3][:1]
    return rows


def write(path, content):
    data = json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("marks", [False, True])
def test_words_are_split_as_the_tokenizer_splits_them(text, marks):
    words = sorted({word for text in TEXTS for word in split_words(text, marks)})
    tokenizer = word_tokenizer(words)
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == split_words(text, marks)


def test_words_are_learnt_by_frequency():
    words = learn_words(TEXTS)
    assert words[:4] == ["<pad>", "<unk>", "the", "chair"]
    assert set(learn_words(TEXTS, min_count=2)) == {
        *("<pad>", "<unk>", "the", "chair", "red", "stop", "walk")
    }
    assert not set(",.?!;") & set(words)


@pytest.mark.parametrize("marks", [False, True])
def test_a_list_is_recovered_from_texts_and_ids(marks):
    true_words = ["<pad>", "<unk>", "spare", "door"]
    found = {word for text in TEXTS[:3] for word in split_words(text, marks)}
    true_words += sorted(found - {"door"})
    words = recover_words(TEXTS, ids_of(true_words, marks))
    assert words == [*true_words[:2], "<unused_2>", *true_words[3:]]


def test_a_wrong_row_is_outvoted():
    words = ["<pad>", "<unk>", "go", "on"]
    texts, tokens = ["go on", "go on", "on go"], [[2, 3]] * 3
    assert recover_words(texts, tokens) == words


def test_texts_that_tell_nothing_are_refused():
    with pytest.raises(ValueError, match="no text of 1 with as many words"):
        recover_words(["go on"], [[2]])


def test_lists_are_read_from_files(tmp_path):
    words = ["<pad>", "<unk>", "?", "go"]
    vlnce = {"episodes": [], "instruction_vocab": {"word_list": words, "stoi": {}}}
    for name in ("train.json.gz", "train.json"):
        assert read_vocabulary(write(tmp_path / name, vlnce)) == words
    (tmp_path / "words.txt").write_text("\n".join(words) + "\n")
    assert read_vocabulary(tmp_path / "words.txt") == words


def test_a_file_without_a_list_gives_one_by_its_episodes(tmp_path):
    words = ["<pad>", "<unk>", *sorted({word for text in TEXTS for word in split_words(text)})]
    entries = zip(TEXTS, ids_of(words), strict=True)
    episodes = [
        {"instruction": {"instruction_text": text, "instruction_tokens": ids + [0] * 9}}
        for text, ids in entries
    ]
    found = read_vocabulary(write(tmp_path / "train.json.gz", {"episodes": episodes}))
    assert [word for word in found if "unused" not in word] == [
        word for word in words if word not in ("go", "on")
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"episodes": []}, r"words: found \['episodes'\], expected instruction_vocab"),
        ({"instruction_vocab": {"words": []}}, "instruction_vocab: found"),
        ({"instruction_vocab": {"word_list": ["a", "a"]}}, "words: found 'a' twice"),
        ([], "found \\[], expected a JSON object"),
        ({"episodes": [3]}, "episodes: found AttributeError"),
        ({"episodes": [{"instruction": "walk"}]}, "episodes: found AttributeError"),
    ],
)
def test_what_is_no_word_list_is_named(tmp_path, content, message):
    path = write(tmp_path / "train.json.gz", content)
    with pytest.raises(ValueError, match=message) as error:
        read_vocabulary(path)
    assert str(path) in str(error.value)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="absent.json.gz: file: found no file"):
        read_vocabulary(tmp_path / "absent.json.gz")
    broken = tmp_path / "train.json.gz"
    broken.write_bytes(gzip.compress(b"{}" * 99)[:15])
    with pytest.raises(ValueError, match="train.json.gz: file: found 15 bytes"):
        read_vocabulary(broken)
    packed = bytearray(gzip.compress(json.dumps([str(i) for i in range(500)]).encode()))
    packed[40] ^= 255
    broken.write_bytes(packed)
    with pytest.raises(ValueError, match=r"train.json.gz: file: found .* bytes \("):
        read_vocabulary(broken)
