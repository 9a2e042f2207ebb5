"""The card: a head that the Hub reads, and what a user must know."""

import pytest
from huggingface_hub import ModelCard

from internnav_hf.camera import CameraSpec
from internnav_hf.publishing.card import (
    CardFacts,
    check_kept,
    check_licence,
    check_published,
    is_by_hand,
    render_card,
    settle,
)
from internnav_hf.publishing.licences import NON_COMMERCIAL, QWEN_RESEARCH, UNRESTRICTED, Licence
from internnav_hf.publishing.origins import Origin, made_from
from tests.tiny.gnm import tiny_image_goal
from tests.tiny.navdp import tiny_navdp_model
from tests.tiny.rdp import tiny_rdp
from tests.tiny.system2 import tiny_system2
from tests.tiny.vln import tiny_cma

APACHE = Licence("apache-2.0")
QWEN = Origin("Qwen/X", "weights", APACHE, "main", "Qwen/X")
RESEARCH = Origin("Qwen/Y", "weights", QWEN_RESEARCH, "", "Qwen/Y")
R2R = Origin(
    "r2r_125cm_0_30", "data", NON_COMMERCIAL, "LeRobot v2.1", "InternRobotics/InternData-N1"
)
ROOMS = Origin("rooms", "data", UNRESTRICTED)
MINE = Origin("mine", "data", None)


def facts(*origins, **changes):
    return CardFacts(tiny_system2().config, origins, **changes)


def head_of(text: str) -> dict:
    return ModelCard(text).data.to_dict()


def test_the_head_is_what_the_hub_reads():
    card = render_card(facts(QWEN, R2R, base_models=["Qwen/X"]))
    data = ModelCard(card).data
    assert data.license == "cc-by-nc-sa-4.0"
    assert data.library_name == "internnav_hf"
    assert data.pipeline_tag == "robotics"
    assert data.base_model == ["Qwen/X"]
    assert data.datasets == ["InternRobotics/InternData-N1"]
    assert made_from(head_of(card)) == [QWEN, R2R]


def test_what_a_user_must_know_is_there():
    told = facts(
        QWEN,
        R2R,
        command="python recipes/train_system2.py",
        settings={"seed": 3},
        metrics={"eval_sr": 0.51234},
        cameras=[CameraSpec().to_dict(), CameraSpec(height_m=0.6).to_dict()],
        limits=["It sees badly."],
        repository="me/model",
    )
    card = render_card(told)
    for words in (
        "112x84",
        "python recipes/train_system2.py",
        "| seed | 3 |",
        "| eval_sr | 0.5123 |",
        "| height_m | 1.25 m | 0.6 m |",
        "- It sees badly.",
        'System2Policy.from_pretrained("me/model")',
        "| data: `r2r_125cm_0_30` | cc-by-nc-sa-4.0 | LeRobot v2.1 |",
        "eprint = {2512.08186}",
    ):
        assert words in card, words


def test_terms_of_their_own_are_named_and_linked():
    head = head_of(render_card(facts(RESEARCH, ROOMS)))
    assert (head["license"], head["license_name"]) == ("other", "qwen-research")
    assert head["license_link"].startswith("https://")


@pytest.mark.parametrize(
    ("origins", "chosen", "licence"),
    [
        ((ROOMS,), None, None),
        ((ROOMS,), "mit", "mit"),
        ((QWEN, ROOMS), None, "apache-2.0"),
        ((QWEN, MINE), None, None),
        ((QWEN, MINE), "mit", "mit"),
        ((MINE, R2R), None, "cc-by-nc-sa-4.0"),
        ((RESEARCH, ROOMS), "other", "other"),
    ],
)
def test_the_licence_follows_or_is_stated(origins, chosen, licence):
    told = facts(*origins, chosen=Licence(chosen) if chosen else None)
    check_licence(told)
    assert head_of(render_card(told)).get("license") == licence


def test_what_is_not_known_is_asked_for():
    for origins in ((MINE,), (QWEN, MINE)):
        with pytest.raises(ValueError, match="--license: the licence of mine is not known"):
            check_published(facts(*origins))
        check_published(facts(*origins, chosen=Licence("mit")))
    for origins in ((MINE, R2R), (ROOMS,), (QWEN, ROOMS)):
        check_published(facts(*origins))


@pytest.mark.parametrize(
    "chosen", ["mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"]
)
def test_a_restricted_model_is_not_freed(chosen):
    with pytest.raises(
        ValueError, match=r"--license .*: .* made from r2r_125cm_0_30, which is cc-by"
    ):
        check_published(facts(QWEN, R2R, chosen=Licence(chosen)))


def test_a_card_by_hand_is_known_and_must_not_free():
    ours = head_of(render_card(facts(R2R)))
    assert not is_by_hand(ours)
    assert not is_by_hand({})
    assert not is_by_hand({"tags": ["generated_from_trainer"]})
    assert is_by_hand({"license": "mit"})
    check_kept({"license": "cc-by-nc-sa-4.0"}, "me/model", [R2R])
    with pytest.raises(ValueError, match="its card states mit, but r2r_125cm_0_30"):
        check_kept({"license": "mit"}, "me/model", [R2R])


def test_names_from_data_are_text():
    odd = Origin("a`|<b>\n## x\n---\nlicense: mit", "data", NON_COMMERCIAL)
    card = render_card(facts(odd))
    assert head_of(card)["license"] == "cc-by-nc-sa-4.0"
    body = ModelCard(card).text
    assert "\n## x" not in body
    assert "<b>" not in body


def test_a_navdp_is_described():
    card = render_card(CardFacts(tiny_navdp_model().config, [ROOMS]))
    assert "# NavDPModel" in card
    assert "pixels and depth." in card
    assert "NavDPPolicy.from_pretrained" in card
    assert "- visual-navigation" in card


@pytest.mark.parametrize(
    ("model", "name", "policy"),
    [(tiny_cma, "CMA", "VLNPolicy"), (tiny_rdp, "RDP", "RDPPolicy")],
)
def test_an_instruction_following_model_names_its_policy(model, name, policy):
    card = render_card(CardFacts(model().config, [ROOMS]))
    assert f"A {name}: RGB images of 32x32 pixels, depth and an instruction in" in card
    assert f"import {policy}\n" in card
    assert "- vision-and-language-navigation" in card


def test_a_card_by_hand_must_say_the_licence_of_a_restricted_model():
    with pytest.raises(ValueError, match="its card states no licence, but r2r_125cm_0_30"):
        check_kept({"title": "mine"}, "me/model", [R2R])
    check_kept({"title": "mine"}, "me/model", [ROOMS])
    assert is_by_hand({"license": "mit", "tags": 3})


def test_terms_that_cover_several_origins_are_kept():
    for origins in ([RESEARCH, R2R], [RESEARCH, Origin("x", "data", Licence("gpl-3.0"))]):
        check_kept(head_of(render_card(facts(*origins))), "me/model", origins)


def test_a_licence_that_the_hub_does_not_know_is_other():
    head = head_of(render_card(facts(Origin("x", "weights", Licence("my own/words")))))
    assert (head["license"], head["license_name"]) == ("other", "my-own-words")


def test_a_card_is_settled_by_what_follows(tmp_path):
    text = "---\nlibrary_name: internnav_hf\n---\n# Mine\n\n## Licence\n\nNot known.\n"
    told = settle(text, tmp_path, [RESEARCH])
    assert head_of(told)["license_name"] == "qwen-research"
    assert head_of(told)["library_name"] == "internnav_hf"
    assert told.endswith("# Mine\n\n## Licence\n\nother (qwen-research).\n")
    assert head_of(settle(text, tmp_path, [ROOMS], Licence("mit")))["license"] == "mit"
    for origins in ([], [MINE]):
        with pytest.raises(ValueError, match="states no licence, and none follows"):
            settle(text, tmp_path, origins)
    with pytest.raises(ValueError, match="no readable YAML head"):
        settle("---\nlicense: [\n---\n", tmp_path, [ROOMS])


def test_an_image_goal_model_is_described():
    card = render_card(CardFacts(tiny_image_goal("vint").config, [ROOMS]))
    assert "3 RGB images of 40x32 pixels and the view at the goal in, waypoints out." in card
