"""A processor whose files are missing or broken is one error that names what is wrong."""

import pytest

from internnav_hf.models.system2.processor import System2Processor
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from tests.tiny.system2 import tiny_processor

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.fixture(params=[System2Processor, VLNProcessor])
def saved(request, tmp_path):
    words = ["<pad>", "<unk>", "walk", "to", "the", "door"]
    made = {
        System2Processor: tiny_processor,
        VLNProcessor: lambda: VLNProcessor(word_tokenizer(words), image_size=32, depth_size=32),
    }[request.param]()
    made.save_pretrained(tmp_path)
    return request.param, tmp_path


@pytest.mark.parametrize("content", [POINTER, "{", "[1]", "", "<html>Log in</html>"])
@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "processor_config.json"]
)
def test_a_broken_file_is_named(saved, name, content):
    processor_class, folder = saved
    assert (folder / name).exists()
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=f"{folder}") as error:
        processor_class.from_pretrained(folder)
    assert len(str(error.value).splitlines()) == 1


def test_a_folder_without_one_is_told(saved, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match=rf"{empty}.* no processor"):
        saved[0].from_pretrained(empty)


def test_it_loads_when_whole(saved):
    assert isinstance(saved[0].from_pretrained(saved[1]), saved[0])


def test_what_pipelines_call_says_what_to_use():
    with pytest.raises(ValueError, match="encode_text for a prompt, or let System2Policy"):
        tiny_processor()(text="hi", images=[])
