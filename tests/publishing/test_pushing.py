"""Models and processors reach the Hub from Python with our card, and open from there."""

import errno

import pytest
import torch
from huggingface_hub import ModelCard, RepoUrl

from internnav_hf import System2Model, System2Policy
from internnav_hf.models.dual_system.model import DualSystemModel
from internnav_hf.models.navdp.model import NavDPModel
from internnav_hf.models.vln.processor import VLNProcessor
from internnav_hf.models.vln.seq2seq import Seq2SeqModel
from internnav_hf.publishing.licences import Licence
from internnav_hf.publishing.pushing import hub_problem
from internnav_hf.publishing.repository import Repository, push_folder
from tests.hub_server import DROP, go_online, serve
from tests.tiny.dual_system import tiny_dual_system, tiny_expert_config
from tests.tiny.navdp import SIZES, tiny_navdp_model
from tests.tiny.navdp_released import tiny_released
from tests.tiny.rdp import tiny_rdp
from tests.tiny.system2 import tiny_processor, tiny_system2
from tests.tiny.vln import tiny_cma, tiny_seq2seq
from tests.tiny.vln_golden import released_weights
from tests.tiny.vln_processor import tiny_vln_processor

CARD = "---\nlibrary_name: internnav_hf\nlicense: {}\nmade_from: []\n---\n# Mine\n"
NC = "made_from: [{name: p, kind: weights, licence: cc-by-nc-sa-4.0}]\n"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serve() as running:
        go_online(monkeypatch, running, tmp_path / "hub-cache")
        yield running


@pytest.fixture
def saved(tmp_path):
    """A folder with a System2, its processor and a card of ours."""
    folder = tmp_path / "saved"
    tiny_system2().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    (folder / "README.md").write_text(CARD.format("cc-by-nc-sa-4.0"))
    return folder


def test_model_and_processor_open_from_the_hub(hub, saved):
    model = System2Model.from_pretrained(saved)
    model.push_to_hub("me/model")
    tiny_processor().push_to_hub("me/model")
    files = hub.files("me/model")
    assert {"README.md", "model.safetensors", "config.json", "processor_config.json"} <= set(files)
    assert files["README.md"].decode() == (saved / "README.md").read_text()
    assert "README.md" in hub.commits[0]["files"]
    opened = System2Policy.from_pretrained("me/model")
    ours, theirs = model.state_dict(), opened.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_xet_works_as_well(monkeypatch, tmp_path, saved):
    with serve() as hub:
        hub.cas = tmp_path / "cas"
        hub.cas.mkdir()
        hub.know(saved / "model.safetensors")
        go_online(monkeypatch, hub, tmp_path / "hub-cache", xet=True)
        model = System2Model.from_pretrained(saved)
        model.push_to_hub("me/model")
        assert not hub.large
        opened = System2Model.from_pretrained("me/model")
    ours, theirs = model.state_dict(), opened.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_licence_that_is_not_known_is_asked_for(hub, tmp_path):
    model = tiny_system2()
    with pytest.raises(ValueError, match="--license: the licence of its training data is not"):
        model.push_to_hub("me/model")
    assert not hub.commits
    model.push_to_hub("me/model", license="mit")
    assert ModelCard(hub.files("me/model")["README.md"].decode()).data.license == "mit"


def test_restricted_weights_are_not_freed(hub, saved):
    model = System2Model.from_pretrained(saved)
    with pytest.raises(ValueError, match="--license mit: .* made from saved, which is cc-"):
        model.push_to_hub("me/model", license="mit")
    (saved / "README.md").unlink()
    with pytest.raises(ValueError, match="the licence of saved, its training data is not known"):
        model.push_to_hub("me/model")
    assert not hub.repositories


@pytest.mark.parametrize("name", ["seq2seq", "navdp"])
def test_released_weights_are_not_freed(hub, tmp_path, name):
    if name == "navdp":
        released, model_class = tiny_released()[1], NavDPModel
        fields = {key: size for key, size in SIZES.items() if key != "action_horizon"}
        fields["num_memory_frames"] = 8
    else:
        weights = released_weights(name).items()
        released = {k if k.startswith("action_") else f"net.{k}": v for k, v in weights}
        model_class, fields = Seq2SeqModel, {}
    torch.save(released, tmp_path / "mine.pth")
    for path in (tmp_path / "mine.pth", tmp_path):
        model, _ = model_class.from_pretrained(path, output_loading_info=True, **fields)
        with pytest.raises(ValueError, match=f"--license mit: .* made from {path.name}, which is"):
            model.push_to_hub("me/model", license="mit")
    assert not hub.repositories


def test_the_parts_of_a_model_keep_their_terms(hub, saved):
    dual = DualSystemModel.from_parts(System2Model.from_pretrained(saved), tiny_expert_config())
    dual.name_or_path = ""  # as of one that is put together by hand
    with pytest.raises(ValueError, match="--license mit: .* made from saved, which is cc-"):
        dual.push_to_hub("me/model", license="mit")
    assert not hub.repositories


def test_a_card_by_hand_stays_where_the_hub_does_not_show_it(hub, saved):
    model = System2Model.from_pretrained(saved)
    hub.repositories["me/model"] = {"README.md": b"---\nlicense: cc-by-nc-sa-4.0\n---\nMy words.\n"}
    for method in ("HEAD", "GET"):
        hub.answers.append((method, "resolve/main/README.md", 403))
    with pytest.raises(ValueError, match="me/model: "):
        model.push_to_hub("me/model")
    assert hub.files("me/model")["README.md"].endswith(b"My words.\n")


def test_a_card_by_hand_stays(hub, saved):
    model = System2Model.from_pretrained(saved)
    hub.repositories["me/model"] = {"README.md": b"---\nlicense: cc-by-nc-sa-4.0\n---\nMy words.\n"}
    model.push_to_hub("me/model")
    assert hub.files("me/model")["README.md"].endswith(b"My words.\n")
    hub.repositories["me/free"] = {"README.md": b"---\nlicense: mit\n---\nMy words.\n"}
    with pytest.raises(ValueError, match="me/free: its card states mit, but saved"):
        model.push_to_hub("me/free")


def test_save_pretrained_pushes_with_our_card(hub, saved, tmp_path):
    model = System2Model.from_pretrained(saved)
    model.save_pretrained(tmp_path / "again", push_to_hub=True, repo_id="me/again")
    assert b"library_name: internnav_hf" in hub.files("me/again")["README.md"]


def test_a_processor_alone_needs_no_licence(hub):
    tiny_vln_processor().push_to_hub("me/words")
    opened = VLNProcessor.from_pretrained("me/words")
    assert opened.image_size == 32


@pytest.mark.parametrize(
    ("part", "status", "told"),
    [
        ("/create", 401, "does not know the token"),
        ("/create", 403, "may not write there"),
        ("/preupload", 404, "no such repository or branch"),
        ("/commit", 409, "being changed"),
        ("/create", 500, "has an internal error"),
        ("/create", DROP, "could not be reached"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, saved, part, status, told):
    hub.answers.append(("POST", part, status))
    with pytest.raises(ValueError, match=told) as error:
        System2Model.from_pretrained(saved).push_to_hub("me/model")
    assert str(error.value).startswith("me/model: ")
    assert len(str(error.value).splitlines()) == 1


def test_odd_problems_are_one_line():
    assert hub_problem(RuntimeError("a\nb")) == (
        "the Hub could not be reached (RuntimeError: a); check the network and try again."
    )
    assert hub_problem(ValueError("a\nb")) == "a"
    assert hub_problem(OSError(errno.ENOSPC, "No space left")).startswith("the disk: No space left")


def push(folder, by_script):
    if by_script:
        push_folder(folder, Repository("me/model"))
    else:
        System2Model.from_pretrained(folder).push_to_hub("me/model")


@pytest.mark.parametrize("by_script", [False, True])
@pytest.mark.parametrize(
    ("head", "told"),
    [
        (f"license: mit\n{NC}", "its card states mit, but p, .* is cc-by-nc-sa-4.0"),
        ("license: mit\nbase_model: InternRobotics/InternVLA-N1\n", "states mit, but Intern"),
        ("license: 'null'\n", "states no licence, and none follows: pass --license"),
        ("a: [\n", "no readable YAML head|licence of saved.* not known"),
    ],
)
def test_a_card_that_was_edited_frees_nothing(hub, saved, head, told, by_script):
    (saved / "README.md").write_text(f"---\nlibrary_name: internnav_hf\n{head}---\n# Mine\n")
    with pytest.raises(ValueError, match=told):
        push(saved, by_script)
    assert not hub.commits


@pytest.mark.parametrize("by_script", [False, True])
def test_a_card_whose_licence_was_removed_gets_it_back(hub, saved, by_script):
    (saved / "README.md").write_text(f"---\nlibrary_name: internnav_hf\n{NC}---\nthis/repository\n")
    push(saved, by_script)
    card = hub.files("me/model")["README.md"].decode()
    assert ModelCard(card).data.license == "cc-by-nc-sa-4.0"
    assert card.endswith("me/model\n")


def test_a_script_frees_no_card(hub, saved):
    (saved / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# Mine\n")
    with pytest.raises(ValueError, match="--license mit: .* made from saved, which is cc-by-nc"):
        push_folder(saved, Repository("me/model"), Licence("mit"))
    assert not hub.repositories


def test_weights_of_another_kind_go(hub, saved):
    there = ("adapter_config.json", "adapter_model.safetensors", "model-00001-of-00002.safetensors")
    hub.repositories["me/model"] = dict.fromkeys((*there, "notes"), b"x")
    System2Model.from_pretrained(saved).push_to_hub("me/model")
    tiny_processor().push_to_hub("me/model")
    assert not set(there) & set(hub.files("me/model"))
    assert "notes" in hub.files("me/model")
    System2Policy.from_pretrained("me/model")


def test_the_card_of_a_repository_goes_on(hub, saved):
    (saved / "README.md").write_text(CARD.format("mit"))
    System2Model.from_pretrained(saved).push_to_hub("me/model")
    System2Model.from_pretrained("me/model").push_to_hub("me/other")
    assert hub.files("me/other")["README.md"] == hub.files("me/model")["README.md"]


def test_what_refuses_a_large_file_is_told(hub, saved):
    hub.answers.append(("PUT", "/large", 403))
    with pytest.raises(ValueError, match="may not write there"):
        System2Model.from_pretrained(saved).push_to_hub("me/model")


def test_an_answer_of_something_else_is_one_line(hub, saved):
    hub.answers.append(("POST", "/create", 200))
    with pytest.raises(ValueError, match="me/model: the server is no Hub"):
        System2Model.from_pretrained(saved).push_to_hub("me/model")


def test_a_password_in_the_address_of_the_hub_is_not_told(hub, saved, monkeypatch):
    address = hub.url.replace("://", "://ann:hunter22@")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    hub.answers.append(("POST", "/create", 418))
    with pytest.raises(ValueError, match="418") as error:
        System2Model.from_pretrained(saved).push_to_hub("me/model")
    assert "hunter22" not in str(error.value)


@pytest.mark.parametrize(
    "build", [tiny_navdp_model, tiny_cma, tiny_seq2seq, tiny_rdp, tiny_dual_system]
)
def test_every_family_opens_from_the_hub(hub, build):
    model = build()
    with pytest.raises(ValueError, match="--license: the licence of its training data"):
        model.push_to_hub("model")
    model.push_to_hub("model", license="cc-by-nc-sa-4.0")
    assert b'.from_pretrained("me/model")' in hub.files("me/model")["README.md"]
    opened = type(model).from_pretrained("me/model").state_dict()
    assert all(torch.equal(value, opened[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["me/модель", "with blanks", "", "a/b/c", "../x"])
def test_odd_names_are_one_line(hub, name):
    with pytest.raises(ValueError, match="expected OWNER/NAME") as error:
        tiny_vln_processor().push_to_hub(name)
    assert len(str(error.value).splitlines()) == 1


def test_offline_a_stand_in_for_the_hub_is_asked_for_nothing(saved, monkeypatch):
    class StandIn:
        def __init__(self, token=None): ...

        def create_repo(self, name, **options):
            return RepoUrl(f"https://huggingface.co/{name}")

        def upload_folder(self, **options):
            return options

    monkeypatch.setattr("internnav_hf.publishing.pushing.HfApi", StandIn)
    told = System2Model.from_pretrained(saved).push_to_hub("me/model")
    assert told["delete_patterns"] is None
