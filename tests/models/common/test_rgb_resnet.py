"""The colour encoder against upstream's numbers, and where its statistics come from."""

import pytest
import torch
from torch.testing import assert_close
from transformers import ResNetConfig

from internnav_hf.models.common.rgb_resnet import RGBResNet, torchvision_resnet_keys
from tests.tiny.seeded_weights import seeded_tensor
from tests.tiny.vln import RGB
from tests.tiny.vln_golden import golden, released_shapes

FC = {"weight": (256, 2048), "bias": (256,)}
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def released_encoder(batch_norm_mode: str = "running", grid: int | None = None) -> RGBResNet:
    """The golden's: names are those of the encoder by itself."""
    weights = {}
    for key, shape in released_shapes("seq2seq").items():
        key = key.removeprefix("rgb_encoder.")
        if key.startswith("cnn."):
            child, rest = key.removeprefix("cnn.").split(".", 1)
            is_count = key.endswith("tracked")
            value = torch.tensor(0) if is_count else seeded_tensor(key, tuple(shape))
            weights[f"{CHILDREN[child]}.{rest}"] = value
    encoder = RGBResNet(ResNetConfig(), batch_norm_mode, grid).eval()
    encoder.load_state_dict(torchvision_resnet_keys(weights))
    return encoder


def images(data: dict, size: int) -> torch.Tensor:
    # contiguous: torch's batch statistics are less exact over channels-last
    return data[f"in.rgb_{size}"].permute(0, 3, 1, 2).contiguous() / 255


@torch.no_grad()
def test_with_stored_statistics_it_gives_upstreams_numbers():
    data = golden("rgb_encoder")
    pooled = data["out.fc_features_224"][..., 0, 0]
    assert_close(released_encoder()(images(data, 224)), pooled, atol=1e-5, rtol=0)
    grid = released_encoder(grid=4)(images(data, 224))
    assert_close(grid, data["out.spatial_features_224"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_with_the_batchs_statistics_it_gives_upstreams_numbers():
    data = golden("rgb_encoder")
    features = released_encoder("training").train()(images(data, 224))
    weight, bias = (seeded_tensor(f"fc.1.{name}", shape) for name, shape in FC.items())
    out = torch.relu(features @ weight.T + bias)
    # the golden is 3.4e-5 from float64, and how near float32 comes to it depends on the processor
    assert_close(out, data["out.fc_224_bn_train_mode"], atol=5e-5, rtol=0)


def tiny(batch_norm_mode: str) -> RGBResNet:
    torch.manual_seed(0)
    return RGBResNet(ResNetConfig(**RGB), batch_norm_mode)


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def statistics(encoder: RGBResNet) -> list[torch.Tensor]:
    return [buffer.clone() for name, buffer in encoder.named_buffers() if "running" in name]


@pytest.mark.parametrize(
    ("mode", "moves"), [("running", False), ("training", True), ("always", True)]
)
def test_training_moves_the_stored_statistics_only_where_asked(mode, moves, frames):
    encoder = tiny(mode).train()
    before = statistics(encoder)
    first = encoder(frames)
    after = statistics(encoder)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) == moves
    assert torch.allclose(encoder(frames[:1]), first[:1], atol=1e-5) != moves


@torch.no_grad()
def test_always_means_each_images_own_statistics(frames):
    encoder = tiny("always").eval()
    together, before = encoder(frames), statistics(encoder)
    alone = tiny("training").train()  # a batch of one image
    for index in range(3):
        assert_close(together[index], alone(frames[index, None])[0], atol=1e-5, rtol=1e-5)
    assert all(map(torch.equal, statistics(encoder), before))


@torch.no_grad()
def test_evaluation_uses_the_stored_statistics_after_training_with_the_batchs(frames):
    encoder = tiny("training").train()
    encoder(frames)
    reference = tiny("running").eval()
    reference.load_state_dict(encoder.state_dict())
    assert_close(encoder.eval()(frames), reference(frames))
