"""Goals in slots: what can be mixed, and what is refused."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.navdp.goals import GoalEncoder
from tests.tiny.navdp import tiny_navdp_model_config


@pytest.fixture
def encoder() -> GoalEncoder:
    torch.manual_seed(0)
    return GoalEncoder(tiny_navdp_model_config()).eval()


def embed(encoder: GoalEncoder, *goals) -> torch.Tensor:
    with torch.no_grad():
        return encoder.embed(goals, like=torch.zeros(1, 32))


def test_one_goal_fills_all_slots_and_none_leaves_them_empty(encoder):
    point, image = torch.rand(3), torch.rand(6, 28, 28)
    slots = embed(encoder, {"image": image}, {}, {"point": point.numpy()})
    with torch.no_grad():
        tokens = {
            "image": encoder("image", image[None])[0],
            "point": encoder("point", point[None])[0],
        }
    assert_close(slots[0], tokens["image"].expand(3, -1))
    assert not slots[1].any()
    assert_close(slots[2], tokens["point"].expand(3, -1))
    both = embed(encoder, {"point": point, "image": image})[0]
    assert_close(both, torch.stack([tokens["image"], tokens["point"], tokens["image"]]))


def test_bytes_beside_floats_show_what_they_show_alone(encoder):
    first, second = torch.randint(256, (2, 6, 28, 28), dtype=torch.uint8)
    mixed = embed(encoder, {"image": first}, {"image": second / 255})
    assert_close(mixed, embed(encoder, {"image": first}, {"image": second}))


@pytest.mark.parametrize(
    ("goal", "error"),
    [
        ({"pose": torch.zeros(3)}, "found 'pose', expected one of"),
        (
            {"point": torch.zeros(3), "pixel": torch.zeros(4, 28, 28)},
            "only point and image go together",
        ),
        ({"point": torch.zeros(2)}, r"point: found \(2,\), expected \(3,\)"),
        ({"pixel": torch.zeros(7, 28, 28)}, r"pixel: found \(7, 28, 28\), expected \(4, 28, 28\)"),
    ],
)
def test_other_goals_are_refused(encoder, goal, error):
    with pytest.raises(ValueError, match=error):
        embed(encoder, goal)


def test_published_slots_of_fewer_kinds():
    encoder = GoalEncoder(tiny_navdp_model_config(goal_kinds=("point", "pixel", "none")))
    slots = encoder.published_slots(9, torch.device("cpu"))
    assert slots[:4].tolist() == [[0, 0, 0], [2, 0, 0], [0, 2, 0], [2, 2, 0]]
    assert slots[8].tolist() == slots[0].tolist()
    tokens = {kind: torch.zeros(1, 32) for kind in ("point", "pixel")}
    with pytest.raises(ValueError, match=r"goal_slots: found \[0, 1\], expected some of \[0, 2\]"):
        encoder.mix(tokens, torch.tensor([[0, 1, 0]]))
