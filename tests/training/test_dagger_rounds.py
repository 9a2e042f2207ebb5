"""DAgger's rounds: their settings, scenes and probabilities; training with them is the recipe's."""

import pytest

from internnav_hf.arguments.training import NavTrainingArguments
from internnav_hf.camera import CameraSpec
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from internnav_hf.policies import RDPPolicy, VLNPolicy
from internnav_hf.training import dagger_rounds
from internnav_hf.training.dagger_rounds import (
    DaggerArguments,
    check_camera,
    collect_round,
    dagger_stage,
)
from tests.data.vln_pe import WORDS
from tests.tiny.rdp import tiny_rdp
from tests.tiny.vln import tiny_cma

CAMERA = CameraSpec(width=32, height=24)


def arguments(**fields) -> DaggerArguments:
    small = {"dagger_episodes": 5, "dagger_scenes": 2, "dagger_num_rooms": [1, 1]}
    return DaggerArguments(**small | fields)


def training(tmp_path, **fields) -> NavTrainingArguments:
    return NavTrainingArguments(str(tmp_path), use_cpu=True, **fields)


def test_a_round_has_its_folder_and_length_and_resumes_as_the_run_does(tmp_path):
    args = training(tmp_path, max_steps=7, seed=3, learning_rate=0.5)
    stage = dagger_stage(args, arguments(dagger_epochs=2.5), 2)
    assert stage.output_dir == str(tmp_path / "dagger" / "2")
    assert (stage.num_train_epochs, stage.max_steps) == (2.5, -1)
    assert (stage.learning_rate, stage.resume_from_checkpoint) == (0.5, None)
    assert (args.max_steps, args.output_dir) == (7, str(tmp_path))
    for choice, expected in {"false": None, "true": "auto", "auto": "auto", "a/b": "auto"}.items():
        args.resume_from_checkpoint = choice
        assert dagger_stage(args, arguments(), 1).resume_from_checkpoint == expected


@pytest.mark.parametrize(("kind", "policy"), [("cma", VLNPolicy), ("rdp", RDPPolicy)])
def test_a_round_collects_with_the_model_in_scenes_of_its_own(tmp_path, monkeypatch, kind, policy):
    calls = []
    monkeypatch.setattr(dagger_rounds, "collect", lambda *a, **options: calls.append((a, options)))
    model = {"cma": tiny_cma, "rdp": tiny_rdp}[kind]().train()
    sizes = {name: getattr(model.config, name) for name in ("image_size", "depth_size")}
    processor = VLNProcessor(word_tokenizer(WORDS), camera=CAMERA.to_dict(), **sizes)
    for iteration in (1, 2):
        stage = dagger_stage(training(tmp_path), arguments(), iteration)
        root = collect_round(model, processor, arguments(), stage, iteration)
        assert root == str(tmp_path / "dagger" / str(iteration) / "data")
    assert model.training
    (first, second), (_, options) = (call[0] for call in calls), calls[1]
    assert isinstance(first[0], policy)
    assert first[2] == CAMERA
    assert options["beta"] == pytest.approx(0.75**2)
    assert options["num_episodes"] == 5
    assert len(first[1].tasks) == 6  # three in each of two scenes, of which five are walked
    assert first[1].digest() != second[1].digest()


def test_the_others_wait_until_all_is_collected(tmp_path, monkeypatch):
    """Without a barrier, whose time limit ends a run."""
    stage = dagger_stage(training(tmp_path), arguments(), 1)
    looks = []

    class Other:
        is_main_process = False

        def wait_for_everyone(self) -> None:
            assert len(looks) == 3

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            (tmp_path / "dagger" / "1").mkdir(parents=True)
            (tmp_path / "dagger" / "1" / "collected").touch()

    monkeypatch.setattr(dagger_rounds, "PartialState", Other)
    monkeypatch.setattr(dagger_rounds.time, "sleep", look)
    processor = VLNProcessor(
        word_tokenizer(WORDS), image_size=32, depth_size=32, camera=CAMERA.to_dict()
    )
    root = collect_round(tiny_cma(), processor, arguments(), stage, 1)
    assert root == str(tmp_path / "dagger" / "1" / "data")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dagger_p": 2.0}, "--dagger_p"),
        ({"dagger_iterations": -1}, "--dagger_iterations"),
        ({"dagger_episodes": 0}, "--dagger_episodes: found 0"),
        ({"dagger_num_objects": [3]}, "--dagger_num_objects"),
    ],
)
def test_what_cannot_be_is_one_clear_error(fields, message):
    with pytest.raises(ValueError, match=message):
        arguments(**fields)


def test_without_a_camera_there_is_no_round():
    check_camera(arguments(), None)
    check_camera(arguments(dagger_iterations=1), CAMERA.to_dict())
    with pytest.raises(ValueError, match="do not say which camera"):
        check_camera(arguments(dagger_iterations=1), None)
