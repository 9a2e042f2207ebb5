"""Released agents load strictly, from every form that was published; others say what is wrong."""

import os
import re

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.ddppo.model import DDPPOModel
from internnav_hf.models.vln.start import start_vln
from internnav_hf.policies.loading import family_of_checkpoint
from tests.tiny.ddppo import SIZES, tiny_ddppo
from tests.tiny.vln import tiny_seq2seq

SIZE = {name: SIZES[name] for name in ("image_height", "image_width")}
NAMES = (
    (r"^visual_projection\.", "net.visual_fc.1."),
    (r"^visual_encoder\.", "net.visual_encoder."),
    (r"^goal_projection\.", "net.tgt_embeding."),
    (r"^previous_action_embedding\.", "net.prev_action_embedding."),
    (r"^state_encoder\.", "net.state_encoder."),
    (r"^action_head\.", "action_distribution.linear."),
    (r"^value_head\.", "critic.fc."),
)
SPOT = {"action_space": "continuous", "num_actions": 2, "has_value_head": False}


class Settings:
    """What lies beside VLFM's weights; harmful where it is unpickled."""

    def __init__(self, folder: str):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def released(model: DDPPOModel) -> dict[str, torch.Tensor]:
    """Its weights under the released names."""
    found = {}
    for key, value in model.state_dict().items():
        for pattern, replacement in NAMES:
            key = re.sub(pattern, replacement, key)
        found[key] = value
    return found


@pytest.mark.parametrize("form", ["2019", "vlfm", "spot", "spot of today"])
def test_every_published_form_loads(form, tmp_path):
    model = tiny_ddppo(**(SPOT if form.startswith("spot") else {}))
    weights, harm = released(model), tmp_path / "harm"
    file = tmp_path / "weights.pth"
    if form == "2019":
        weights = {f"actor_critic.{key}": value for key, value in weights.items()}
        torch.save({"state_dict": weights, "config": Settings(str(harm))}, file)
    elif form == "vlfm":
        torch.save({"config": Settings(str(harm)), "state_dict": weights}, file)
    else:
        kind = "_cont" if form == "spot of today" else ""
        torch.save(
            {
                key.replace("embedding.", f"embedding{kind}.").replace(".linear.", ".mu_maybe_std.")
                if "prev_action" in key or "distribution" in key
                else key: value
                for key, value in weights.items()
            },
            file,
        )
    family = family_of_checkpoint(file)
    assert family is not None
    assert family.name == "DDPPO"
    loaded = DDPPOModel.from_pretrained(file, **SIZE)
    assert not harm.exists()
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    assert loaded.config.is_discrete == (not form.startswith("spot"))
    assert (loaded.config.max_depth_m, loaded.config.min_depth_m) == (
        (10.0, 0.0) if form == "2019" else (5.0, 0.5)
    )


def test_another_file_is_named(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model.pth: found no net.tgt_embeding.weight, expected"):
        DDPPOModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("form", ["file of 2019", "file of VLFM", "folder of ours"])
def test_its_encoder_is_the_depth_encoder_of_instruction_models(form, tmp_path):
    agent = tiny_ddppo(block_type="bottleneck", image_height=128, image_width=256)
    source = tmp_path / "agent"
    if form == "folder of ours":
        agent.save_pretrained(source)
    else:
        source = tmp_path / "agent.pth"
        prefix = "actor_critic." if form == "file of 2019" else ""
        weights = {f"{prefix}{key}": value for key, value in released(agent).items()}
        torch.save({"state_dict": weights}, source)
    channels = agent.visual_encoder.compression[0].out_channels
    follower = tiny_seq2seq(depth_feature_channels=channels)
    start_vln(follower, depth_encoder=str(source))
    expected = agent.visual_encoder.state_dict()
    for key, value in follower.depth_encoder.state_dict().items():
        assert_close(value, expected[key], atol=0, rtol=0)


def test_an_agent_that_sees_colours_is_no_depth_encoder(tmp_path):
    agent = tiny_ddppo(views=("rgb", "depth"), block_type="bottleneck")
    agent.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a DDPPOModel has no depth_encoder"):
        start_vln(tiny_seq2seq(), depth_encoder=str(tmp_path))
