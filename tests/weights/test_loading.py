"""A checkpoint fits, or one message says what does not."""

import os
import stat

import pytest

from internnav_hf.training.tuning import add_lora
from internnav_hf.weights.loading import check_is_checkpoint, check_loading
from tests.tiny.nextdit import tiny as tiny_nextdit
from tests.tiny.system2 import tiny_processor, tiny_system2

FITS = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}


def test_what_fits_passes():
    check_loading("x", FITS)
    check_loading("x", FITS | {"missing_keys": ["head.a"]}, may_be_missing=("head.",))


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"missing_keys": ["b", "a"]}, r"lacks 2 key\(s\): a, b\."),
        ({"unexpected_keys": ["c"]}, r"unexpected 1 key\(s\): c"),
        ({"mismatched_keys": [("d", (1,), (2,))]}, r"other shapes for 1 key\(s\): d"),
        ({"missing_keys": [str(i) for i in range(9)]}, r"0, 1, 2, 3, 4, …"),
    ],
)
def test_what_does_not_fit_is_named(report, message):
    with pytest.raises(ValueError, match=message):
        check_loading("some/folder", FITS | report, may_be_missing=("head.",))


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "model.pth").touch()
    with pytest.raises(ValueError, match=r"--model .*model.pth: found a file, expected a folder"):
        check_is_checkpoint("--model", str(tmp_path / "model.pth"))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_what_is_saved_has_the_permissions_of_the_umask(tmp_path, umask, mode):
    system2 = tiny_system2()
    adapted = add_lora(tiny_system2(), 2)
    before = os.umask(umask)
    try:
        for name, save in {
            "whole": system2.save_pretrained,
            "vlm": system2.save_vlm,
            "expert": tiny_nextdit().save_pretrained,
            "adapter": adapted.save_pretrained,
            "processor": tiny_processor().save_pretrained,
        }.items():
            save(tmp_path / name)
    finally:
        os.umask(before)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"model.safetensors", "adapter_model.safetensors"} <= {file.name for file in files}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {mode}
