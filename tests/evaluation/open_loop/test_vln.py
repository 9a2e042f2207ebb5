"""Open loop of models that say actions on small walks: tiny ones, and who knows the answers."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from internnav_hf.data import DDPPOCollator, DDPPODataset, VLNCollator, VLNDataset
from internnav_hf.evaluation.open_loop.vln import evaluate_vln_open_loop, summarize
from internnav_hf.models.rdp.model import RDPPrediction
from internnav_hf.models.vln.base import VLNOutput
from internnav_hf.models.vln.processor import VLNProcessor, word_tokenizer
from tests.data.vln_pe import WORDS, write_root
from tests.tiny.ddppo import tiny_ddppo
from tests.tiny.rdp import tiny_rdp
from tests.tiny.vln import tiny_cma


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("open_loop") / "data")


def open_walks(root, targets: str = "actions", depth_size: int = 32) -> VLNDataset:
    processor = VLNProcessor(word_tokenizer(WORDS), image_size=32, depth_size=depth_size)
    return VLNDataset(root, processor, targets=targets, cache_dir=root.parent / "cache")


def evaluate(model, dataset, **options) -> dict[str, float]:
    return evaluate_vln_open_loop(model, dataset, VLNCollator(), **options)


class KnowingSeq2Seq:
    """Answers with the labels, or always with `action`; its progress is `ahead` of the truth."""

    device = torch.device("cpu")

    def __init__(self, action: int | None = None, ahead: float = 0.0):
        self.action, self.ahead, self.training = action, ahead, True

    def eval(self):
        self.training = False

    def train(self, mode: bool):
        self.training = mode

    def __call__(self, actions, progress, step_mask, **batch):
        assert not self.training
        actions = actions if self.action is None else torch.full_like(actions, self.action)
        actions = actions.masked_fill(~step_mask, 3)  # padding must not count
        return VLNOutput(logits=one_hot(actions, 4).float(), progress=progress + self.ahead)


def test_who_knows_the_actions_is_always_right(root):
    dataset, model = open_walks(root), KnowingSeq2Seq(ahead=0.25)
    result = evaluate(model, dataset, batch_size=5)
    assert model.training
    names = ("action_accuracy", "stop_recall", "forward_recall", "turn_left_recall")
    assert [result[name] for name in (*names, "stop_precision")] == [1.0] * 5
    assert "turn_right_recall" not in result  # nobody turns right
    assert result["progress_error"] == pytest.approx(0.25)
    assert result["num_walks"] == len(dataset) == 12
    assert result["num_frames"] == dataset.lengths.sum()


def test_the_baselines_are_what_they_say(root):
    dataset = open_walks(root)
    samples = [dataset[index] for index in range(len(dataset))]
    labels = np.concatenate([sample["actions"] for sample in samples])
    before = np.concatenate([sample["previous_actions"] for sample in samples])
    progress = np.concatenate([sample["progress"] for sample in samples])
    result = evaluate(KnowingSeq2Seq(action=1), dataset)
    assert result["action_accuracy"] == result["majority_accuracy"] == (labels == 1).mean()
    assert result["repeat_accuracy"] == (labels == before).mean()
    constant = np.abs(progress - np.median(progress)).mean()
    assert result["constant_progress_error"] == pytest.approx(constant, abs=1e-6)
    assert result["stop_recall"] == 0
    assert "stop_precision" not in result  # it never stopped


def test_a_tiny_cma_is_evaluated_the_same_in_any_batch(root):
    dataset, model = open_walks(root), tiny_cma().train()
    one, five = (evaluate(model, dataset, num_samples=6, batch_size=size) for size in (1, 5))
    assert one == pytest.approx(five, abs=1e-4)
    assert one["num_walks"] == 6
    assert model.training


def test_a_tiny_rdp_is_evaluated_the_same_in_any_batch(root):
    dataset = open_walks(root, "displacements", depth_size=64)
    model = tiny_rdp()
    one, five = (evaluate(model, dataset, num_samples=6, batch_size=size) for size in (1, 5))
    assert one == pytest.approx(five, abs=1e-4)
    assert one["ade_m"] > 0
    assert evaluate(model, dataset, num_samples=6, seed=1)["ade_m"] != one["ade_m"]


def test_a_monitor_is_not_needed(root):
    result = evaluate(tiny_cma(has_progress_monitor=False), open_walks(root), num_samples=2)
    assert "progress_error" not in result


def test_who_samples_the_true_displacements_has_no_error(root, monkeypatch):
    dataset, model = open_walks(root, "displacements", depth_size=64), tiny_rdp()
    samples = [dataset[index] for index in range(len(dataset))]

    def sample(instruction, scene, step_mask, generator):
        found = VLNCollator()([samples.pop(0) for _ in range(len(step_mask))])
        names = ("displacements", "progress", "stop_progress")
        assert torch.equal(found["step_mask"], step_mask)
        return RDPPrediction(*(found[name] for name in names))

    monkeypatch.setattr(model, "sample", sample)
    result = evaluate(model, dataset, batch_size=4)
    for name in ("ade_m", "fde_m", "heading_error_deg", "progress_error"):
        assert result[name] == pytest.approx(0, abs=1e-5), name
    assert result["action_accuracy"] == 1
    assert result["constant_ade_m"] > 0.1


def test_an_empty_set_is_one_clear_error():
    with pytest.raises(ValueError, match="no sample to evaluate"):
        evaluate(KnowingSeq2Seq(), [])


def test_walks_of_different_lengths_weigh_by_their_frames():
    def walk(length, right):
        labels = np.ones(length)
        return {"labels": labels, "previous": labels, "actions": labels if right else 2 * labels}

    assert summarize([walk(1, True), walk(3, False)])["action_accuracy"] == 0.25


def test_of_ddppo_it_is_the_same_in_any_batch_and_counts_steps(root):
    model = tiny_ddppo().train()
    dataset = DDPPODataset(root, model.config, cache_dir=root.parent / "cache")
    one, three = (
        evaluate_vln_open_loop(model, dataset, DDPPOCollator(), batch_size=size) for size in (1, 3)
    )
    assert one == pytest.approx(three)
    assert one["num_frames"] == dataset.lengths.sum()
    assert one["num_walks"] == len(dataset)
    assert 0 <= one["action_accuracy"] <= 1
    assert "progress_error" not in one
    assert model.training
