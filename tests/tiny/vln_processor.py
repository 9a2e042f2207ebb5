"""A processor that fits `tests.tiny.vln` and `tests.tiny.rdp`."""

from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer

WORDS = "walk go turn stop past to at the left right red blue green white table chair sofa door"


def tiny_vln_processor(**settings) -> VLNProcessor:
    """Eighteen words, views of 32 pixels."""
    settings = {"image_size": 32, "depth_size": 32} | settings
    return VLNProcessor(word_tokenizer(WORDS.split(" ")), **settings)
