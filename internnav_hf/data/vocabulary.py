"""Word lists of the models that read words: VLN-CE's, one learnt from texts, or one recovered from
texts and the word ids stored beside them.

A list has the word with number i at place i; 0 is padding, 1 an unknown word. The list of R2R in
VLN-CE has 2504 words and lies in its `train.json.gz`. InternData-N1's `vln_pe` has ids of that list
and no list; its `vln_ce` has ids of another.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from internnav_hf.data.readers.errors import broken, shown
from internnav_hf.data.readers.json_files import decoded, read_bytes, read_json

PADDING, UNKNOWN = "<pad>", "<unk>"
NUM_SPECIAL = 2

_WORDS = re.compile(r"\w+")
_WORDS_AND_MARKS = re.compile(r"\w+|[^\w\s]+")


def split_words(text: str, marks: bool = False) -> list[str]:
    """Split by the published rule: lower-case, without ',' and '?', at what is no letter, digit or
    underscore. With `marks` punctuation counts as words, otherwise it is dropped.
    """
    plain = text.lower().replace(",", "").replace("?", "")
    return (_WORDS_AND_MARKS if marks else _WORDS).findall(plain)


def learn_words(texts: Iterable[str], min_count: int = 1) -> list[str]:
    """Return all words that occur `min_count` times, frequent ones first, ties by alphabet."""
    counts = Counter(word for text in texts for word in split_words(text))
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return [PADDING, UNKNOWN, *(word for word in words if counts[word] >= min_count)]


def recover_words(texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> list[str]:
    """Recover the list of the ids `tokens` of `texts`, as far as possible.

    A text counts if it has as many words as ids. Each id gets the word that it stands for most
    often; one that is in no text becomes `<unused_7>`. ValueError if no text counts.
    """
    parts = [_votes(texts, tokens, marks) for marks in (False, True)]
    votes = max(parts, key=lambda part: sum(map(Counter.total, part.values())))
    if not votes:
        raise ValueError(
            f"instruction_tokens: found no text of {len(texts)} with as many words as ids,"
            " expected ids of its words"
        )
    size = max(max(row) for row in tokens if len(row)) + 1
    words = [PADDING, UNKNOWN, *(f"<unused_{i}>" for i in range(NUM_SPECIAL, size))]
    counted = [(n, i, word) for i, words_of in votes.items() for word, n in words_of.items()]
    taken = set()
    for _, number, word in sorted(counted, key=lambda vote: (-vote[0], vote[1:])):
        if number not in taken and word not in taken:
            words[number] = word
            taken |= {number, word}
    return words


def _votes(
    texts: Sequence[str], tokens: Sequence[Sequence[int]], marks: bool
) -> dict[int, Counter[str]]:
    votes: dict[int, Counter[str]] = defaultdict(Counter)
    for text, row in zip(texts, tokens, strict=True):
        words = split_words(text, marks)
        if len(words) == len(row):
            for number, word in zip(row, words, strict=True):
                if number >= NUM_SPECIAL:
                    votes[number][word] += 1
    return votes


def read_vocabulary(path: str | Path) -> list[str]:
    """Read the list of VLN-CE's `train.json.gz` (its `instruction_vocab`), of a text file of a word
    a line, or of `vln_pe`'s raw `train.json.gz`, which has none: recovered from its episodes.
    """
    path, expected = Path(path), "a word list such as VLN-CE's train.json.gz"
    if path.suffix == ".txt":
        words = decoded(path, "file", read_bytes(path, expected)).splitlines()
    else:
        content = read_json(path)
        vocabulary = content.get("instruction_vocab")
        words = _recovered(path, content) if vocabulary is None else _listed(path, vocabulary)
    repeated = [word for word, count in Counter(words).items() if count > 1]
    if repeated or not words:
        found = f"{repeated[0]!r} twice" if repeated else "no word"
        raise broken(path, "words", found, "words, each once")
    return words


def _listed(path: Path, vocabulary: Any) -> list[str]:
    words = vocabulary.get("word_list") if isinstance(vocabulary, dict) else vocabulary
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise broken(path, "instruction_vocab", shown(words), '{"word_list": [words]}')
    return words


def _recovered(path: Path, content: dict[str, Any]) -> list[str]:
    try:
        instructions = [episode.get("instruction", {}) for episode in content.get("episodes", [])]
        pairs = [
            (
                entry["instruction_text"],
                [number for number in entry["instruction_tokens"] if number],
            )
            for entry in instructions
            if entry.get("instruction_tokens") and entry.get("instruction_text")
        ]
    except (AttributeError, TypeError) as error:
        raise broken(path, "episodes", repr(error), "a list of VLN-CE's episodes") from error
    if not pairs:
        expected = "instruction_vocab (VLN-CE's train.json.gz), or episodes with instruction_tokens"
        raise broken(path, "words", f"{sorted(content)}", expected)
    texts, tokens = zip(*pairs, strict=True)
    return recover_words(texts, tokens)
