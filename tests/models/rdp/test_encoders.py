"""What RDP sees and remembers, apart from what it decides."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.rdp.encoders import RDPEncoders, RDPScene
from tests.tiny.rdp import tiny_rdp

EXACT = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def model() -> RDPEncoders:
    return tiny_rdp()


def scene(model: RDPEncoders, steps: slice = slice(None), **given) -> RDPScene:
    """Of the model's own two episodes."""
    inputs = model.dummy_inputs
    encoded = {
        "rgb": model.encode_rgb(inputs["rgb"].flatten(0, 1)),
        "depth": model.encode_depth(inputs["depth"].flatten(0, 1)),
    }
    seen = [value.unflatten(0, (2, 3)) for value in encoded.values()]
    seen += [inputs["previous_displacements"], inputs["relative_pose"]]
    return model.advance(*(value[:, steps] for value in seen), **given)


@torch.no_grad()
def test_features_have_the_documented_shapes(model):
    inputs = model.dummy_inputs
    assert model.encode_instruction(inputs["instruction_ids"]).shape == (2, 4, 32)
    assert model.encode_rgb(inputs["rgb"][0]).shape == (3, 5, 24)
    assert model.encode_depth(inputs["depth"][0]).shape == (3, 8, 4, 4)


@torch.no_grad()
def test_bytes_and_floats_are_one_image(model):
    image = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8)
    assert_close(model.encode_rgb(image), model.encode_rgb(image / 255), **EXACT)


@torch.no_grad()
def test_depth_beyond_the_largest_is_as_far(model):
    depth = torch.full((1, 64, 64), 30.0)
    depth[:, :20] = 3
    assert_close(model.encode_depth(depth), model.encode_depth(depth.clamp(max=10)))


@torch.no_grad()
def test_a_state_is_carried_from_call_to_call(model):
    whole, first = scene(model), scene(model, slice(0, 1))
    rest = scene(model, slice(1, 3), recurrent_state=first.states)
    assert_close(rest.states, whole.states[:, 1:], **EXACT)


@torch.no_grad()
def test_at_a_reset_nothing_was_done_before(model):
    resets = torch.tensor([[True, False, True], [True, False, False]])
    found, whole = scene(model, reset_mask=resets), scene(model)
    assert not found.previous_displacements[resets].any()
    assert found.previous_displacements[~resets].any()
    alone = scene(model, slice(2, 3))
    assert_close(found.states[0, 2], alone.states[0, 0], **EXACT)
    assert_close(found.states[1], whole.states[1], **EXACT)


@torch.no_grad()
def test_depth_stands_in_the_first_token(model):
    seen = (torch.zeros(1, 1, 5, 24), torch.zeros(1, 1, 8, 4, 4))
    way = (torch.zeros(1, 1, 4, 3), torch.zeros(1, 1, 3))
    without, with_depth = (model.advance(seen[0], depth, *way) for depth in (seen[1], seen[1] + 1))
    changed = (without.image_tokens != with_depth.image_tokens).any(-1)[0, 0]
    assert changed.tolist() == [True, False, False, False, False]


@torch.no_grad()
@pytest.mark.parametrize("heading", ["wrapped", "difference"])
def test_only_published_weights_see_a_heading_jump_by_a_round(heading):
    model = tiny_rdp(relative_heading=heading)
    inputs, around = model.dummy_inputs, torch.tensor([0, 0, 2 * torch.pi])
    seen = [model.encode_rgb(inputs["rgb"].flatten(0, 1)).unflatten(0, (2, 3))]
    seen.append(model.encode_depth(inputs["depth"].flatten(0, 1)).unflatten(0, (2, 3)))
    seen.append(inputs["previous_displacements"])
    states = [
        model.advance(*seen, inputs["relative_pose"] + rounds * around).states for rounds in (0, 1)
    ]
    assert torch.allclose(*states, atol=1e-5) == (heading == "wrapped")


def test_what_dropped_steps_see_follows_the_weights():
    """Of frozen encoders it is kept, as long as they are as they were."""
    model = tiny_rdp().train()
    first = {name: model._blank_features(name) for name in ("rgb", "depth")}
    for name, features in first.items():
        assert model._blank_features(name) is features
        encoder = model.get_submodule(f"{name}_encoder")
        encoder.load_state_dict({k: v + 0.1 for k, v in encoder.state_dict().items()})
        assert not torch.equal(model._blank_features(name), features)
    learning = tiny_rdp(train_rgb_encoder=True).train()
    assert learning._blank_features("rgb").requires_grad
    assert learning._blank_features("rgb") is not learning._blank_features("rgb")


def test_kept_features_and_dropped_steps_go_together_in_mixed_precision():
    model = tiny_rdp().train()
    inputs = model.dummy_inputs
    for name, encode in {"rgb": model.encode_rgb, "depth": model.encode_depth}.items():
        frames = inputs.pop(name)
        inputs[f"{name}_features"] = encode(frames.flatten(0, 1)).unflatten(0, (2, 3))
    dropped = torch.tensor([[True, False, False], [False, True, False]])
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**inputs, image_drop=dropped).loss
    loss.backward()
    assert loss.isfinite()
