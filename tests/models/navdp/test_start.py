"""A NavDP that starts anew, with an encoder, and from a checkpoint."""

import pytest
import torch

from internnav_hf.models.navdp.start import start_navdp
from tests.tiny.navdp import SIZES, VISION, tiny_navdp_model


def test_a_new_one_has_the_given_sizes_and_random_weights():
    torch.manual_seed(1)
    model = start_navdp(SIZES | {"num_memory_frames": 3}, rgb_encoder="random")
    assert model.config.num_memory_frames == 3
    other = start_navdp(SIZES | {"num_memory_frames": 3}, rgb_encoder="random")
    assert not model.critic_head.weight.equal(other.critic_head.weight)


def test_its_attention_can_begin_at_places():
    depth = torch.rand(4, SIZES["image_size"], SIZES["image_size"]) * 5
    changes = {}
    for spread in (False, True):
        torch.manual_seed(1)
        model = start_navdp(SIZES, rgb_encoder="random", spread=spread).eval()
        encoder, frames = model.rgbd_encoder, torch.zeros(4, model.config.num_memory_frames, 4, 1)
        tokens = encoder.encode_depth(depth)
        colour = (frames * tokens[:1, :1]).expand(-1, -1, 4, -1)
        scenes = encoder(colour, tokens[:, None])
        changes[spread] = float(scenes.detach().std(0).mean())
    assert changes[True] > 3 * changes[False]


def test_its_colour_encoder_starts_from_a_dinov2(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    source = Dinov2Model(Dinov2Config(**VISION))
    source.save_pretrained(tmp_path)
    model = start_navdp(SIZES, rgb_encoder=str(tmp_path))
    ours = model.rgbd_encoder.rgb_encoder.state_dict()
    for name, value in ours.items():
        assert value.equal(source.state_dict()[name]), name


def test_from_a_checkpoint_with_a_field_changed(tmp_path):
    trained = tiny_navdp_model()
    trained.save_pretrained(tmp_path)
    model = start_navdp({"train_rgb_encoder": True}, str(tmp_path))
    assert model.config.train_rgb_encoder
    assert not trained.config.train_rgb_encoder
    for name, value in trained.state_dict().items():
        assert value.equal(model.state_dict()[name]), name


@pytest.mark.parametrize("what", ["model", "rgb_encoder"])
def test_what_does_not_exist_is_one_clear_error(what):
    with pytest.raises(ValueError, match=rf"--{what} \./nowhere: there is no such folder"):
        start_navdp(SIZES, **{what: "./nowhere"})
