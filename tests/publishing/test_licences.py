"""Terms pass on: what may follow from what."""

import pytest

from internnav_hf.publishing.licences import (
    NON_COMMERCIAL,
    QWEN_RESEARCH,
    SCANS,
    UNRESTRICTED,
    Licence,
    licence_of_name,
    parse_licence,
    permits,
    strictest,
)

MIT, APACHE, NC = Licence("mit"), Licence("apache-2.0"), Licence("cc-by-nc-4.0")


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("InternRobotics/InternVLA-N1-System2", NON_COMMERCIAL),
        ("somebody/InternVLA-N1-DualVLN-gguf", NON_COMMERCIAL),
        ("InternRobotics/VLN-PE", MIT),
        ("Qwen/Qwen2.5-VL-3B-Instruct-AWQ", QWEN_RESEARCH),
        ("Qwen/Qwen2.5-VL-7B-Instruct", APACHE),
        ("Qwen/Qwen3-VL-4B-Instruct", APACHE),
        ("depth-anything/Depth-Anything-V2-Small-hf", APACHE),
        ("depth-anything/Depth-Anything-V2-Large-hf", NC),
        ("cywan/StreamVLN-Trajectory-Data", NON_COMMERCIAL),
        ("weights/navdp-cross-modal.ckpt", NON_COMMERCIAL),
        ("somebody/something", None),
    ],
)
def test_what_is_known_by_name(name, licence):
    assert licence_of_name(name) == licence


@pytest.mark.parametrize(
    ("licences", "followed"),
    [
        ([], None),
        ([MIT, APACHE, UNRESTRICTED], None),
        ([MIT, NON_COMMERCIAL, QWEN_RESEARCH], NON_COMMERCIAL),
        ([APACHE, QWEN_RESEARCH], QWEN_RESEARCH),
        ([NC, Licence("cc-by-nc-sa-3.0")], Licence("cc-by-nc-sa-3.0")),
        ([Licence("gpl-3.0"), MIT], Licence("gpl-3.0")),
    ],
)
def test_the_strictest_binds(licences, followed):
    assert strictest(licences) == followed


def test_several_sets_of_terms_are_named_together():
    both = strictest([QWEN_RESEARCH, SCANS])
    assert both is not None
    assert both.id == "other"
    assert both.name == "matterport-gibson-terms-of-use-and-qwen-research"
    assert both.link


@pytest.mark.parametrize(
    ("required", "chosen", "allowed"),
    [
        (MIT, Licence("gpl-3.0"), True),
        (NON_COMMERCIAL, MIT, False),
        (NON_COMMERCIAL, NC, False),
        (NON_COMMERCIAL, NON_COMMERCIAL, True),
        (Licence("cc-by-nc-sa-3.0"), NON_COMMERCIAL, True),
        (NC, NON_COMMERCIAL, True),
        (NC, APACHE, False),
        (Licence("cc-by-sa-4.0"), Licence("cc-by-4.0"), False),
        (Licence("gpl-3.0"), MIT, False),
        (QWEN_RESEARCH, Licence("other"), True),
        (QWEN_RESEARCH, APACHE, False),
        (Licence("openrail"), APACHE, False),
        (Licence("words that nobody knows"), MIT, False),
        (NON_COMMERCIAL, Licence("cc-by-nc-sa-2.0"), False),
        (QWEN_RESEARCH, Licence("other", "free-for-all"), False),
        (QWEN_RESEARCH, Licence("other", "gpl-3.0-and-qwen-research"), True),
        (Licence("gpl-3.0"), Licence("other", "gpl-3.0-and-qwen-research"), True),
    ],
)
def test_what_may_be_chosen(required, chosen, allowed):
    assert permits(required, chosen) is allowed


def test_a_licence_is_an_identifier_of_the_hub():
    assert parse_licence(" Apache 2.0 ") == APACHE
    with pytest.raises(ValueError, match="did you mean 'apache-2.0'"):
        parse_licence("aapche-2.0")
