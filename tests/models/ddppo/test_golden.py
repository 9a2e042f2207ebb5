"""DD-PPO's agent is the published network, and its key lists are the published ones."""

import pytest
import torch
from torch.testing import assert_close

from internnav_hf.models.ddppo.config import DDPPOConfig
from internnav_hf.models.ddppo.model import DDPPOModel
from internnav_hf.models.ddppo.released import released_fields, released_keys
from internnav_hf.weights.loading import check_fit
from tests.tiny.ddppo import golden, released_model, released_shapes

EXACT = {"atol": 1e-5, "rtol": 0}
LISTS = {
    "resnet18_depth224": {"num_blocks": (2, 2, 2, 2), "block_type": "basic"},
    "resnet50_depth256": {},
    "resnet50_rgbd256": {"views": ("rgb", "depth")},
    "se_resnext50_depth256": {"block_type": "resnext", "squeeze_excite": True},
}
VLFM = {"image_height": 224, "image_width": 224, "min_depth_m": 0.5, "max_depth_m": 5.0}


def of_2019(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Weights without content under the names of the 2019 files."""
    return {f"actor_critic.{key}": torch.empty(s, device="meta") for key, s in shapes.items()}


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("network", "size"), [("resnet18", 224), ("resnet50", 256)])
def test_it_is_the_reference_at_once_and_step_by_step(network, size):
    given = golden(f"{network}_{size}")
    model = released_model(f"{network}_depth{size}", image_height=size, image_width=size)
    batch = {
        "pointgoal": given["pointgoal"],
        "depth": given["depth"],
        "previous_actions": given["prev_actions"][..., 0],
        "masks": given["masks"][..., 0].bool(),
    }
    whole = model(**batch, hidden_states=given["hidden_in"])
    assert_close(whole.logits, given["logits"], **EXACT)
    assert_close(whole.state_values, given["values"][..., 0], **EXACT)
    assert_close(whole.hidden_states, given["hidden_out"][-1], atol=2e-5, rtol=0)
    chances = model.distribution(whole.logits)
    taken = given["actions"][..., 0]
    assert_close(chances.log_prob(taken), given["log_probs"][..., 0], **EXACT)
    assert_close(chances.entropy(), given["entropy"][..., 0], **EXACT)
    state = given["hidden_in"]
    for t in range(3):
        step = model(**{k: v[:, t : t + 1] for k, v in batch.items()}, hidden_states=state)
        state = step.hidden_states
        assert_close(state, given["hidden_out"][t], atol=2e-5, rtol=0)
        assert_close(state[:, 1], given["features"][:, t], **EXACT)
        assert_close(step.logits, whole.logits[:, t : t + 1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", LISTS)
def test_the_released_key_lists_fit_strictly(name):
    weights = of_2019(released_shapes(name))
    config = DDPPOConfig(**released_fields(weights, "given"))
    assert config.to_dict() == DDPPOConfig(**LISTS[name]).to_dict()
    with torch.device("meta"):
        model = DDPPOModel(config)
    assert released_keys(weights).keys() == model.state_dict().keys()
    check_fit("given", released_keys(weights), model)
    stranger = {"stranger": torch.empty(1)}
    with pytest.raises(ValueError, match=r"unexpected 1 key\(s\): stranger"):
        check_fit("given", released_keys(weights | stranger), model)
    check_fit("given", released_keys(weights | stranger, ("strange",)), model)
    del weights["actor_critic.net.visual_fc.1.bias"]
    with pytest.raises(ValueError, match=r"lacks 1 key\(s\): visual_projection.bias"):
        check_fit("given", released_keys(weights), model)


def test_vlfms_agent_has_its_size_and_range():
    weights = {k: torch.empty(s) for k, s in released_shapes("resnet18_depth224").items()}
    config = DDPPOConfig(**released_fields(weights, "given"))
    assert config.to_dict() == DDPPOConfig(**(LISTS["resnet18_depth224"] | VLFM)).to_dict()
