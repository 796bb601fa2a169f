import pytest
import torch
from torch import nn

from slipway.config import ModelConfig
from slipway.errors import ConfigError
from slipway.models.info import model_info
from slipway.models.registry import build_model, model_names
from slipway.models.specs import ImageSpec, TableSpec


@pytest.mark.parametrize("side", [8, 28, 32, 96, 224])
@pytest.mark.parametrize("name", model_names("image"))
@pytest.mark.parametrize("width", [0.01, 0.25])
def test_every_image_network_takes_every_size_and_width_and_learns_through_all_its_weights(name, side, width):
    network = build_model(name, ImageSpec(channels=3, height=side, width=side), 5, ModelConfig(width=width))
    output = network(torch.randn(2, 3, side, side))
    assert output.shape == (2, 5)
    output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", model_names("image"))
def test_images_need_not_be_square(name):
    network = build_model(name, ImageSpec(channels=1, height=8, width=100), 3, ModelConfig(width=0.1))
    assert network(torch.randn(2, 1, 8, 100)).shape == (2, 3)


def test_width_multiplies_the_channels():
    spec = TableSpec(num_features=7)
    narrow, normal, wide = (build_model("mlp", spec, 3, ModelConfig(width=width))[0].out_features for width in (0.01, 1.0, 8.0))
    assert (narrow, normal, wide) == (1, 128, 1024)


def test_the_stem_makes_a_large_image_cheaper_than_its_number_of_pixels():
    networks = {
        side: build_model("simple-cnn", ImageSpec(channels=3, height=side, width=side), 10, ModelConfig()) for side in (64, 224)
    }
    macs = {side: model_info(network, torch.zeros(1, 3, side, side)).macs for side, network in networks.items()}
    assert macs[224] < macs[64] * (224 / 64) ** 2 / 2


def test_resnet18_computes_what_torchvisions_computes_from_the_same_weights():
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=10).eval()
    ours = build_model("resnet18", ImageSpec(channels=3, height=224, width=224), 10, ModelConfig()).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images), atol=1e-5)


def test_resnet18_has_the_published_size_and_cost_and_measuring_leaves_the_network_as_it_was():
    network = build_model("resnet18", ImageSpec(channels=3, height=224, width=224), 1000, ModelConfig())
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    info = model_info(network, torch.zeros(1, 3, 224, 224))
    assert info.parameters == info.trainable_parameters == 11_689_512
    assert info.macs == 1_814_073_344
    assert info.size_bytes == sum(tensor.nbytes for tensor in state.values())
    assert network.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_multiply_accumulates_of_grouped_convolutions_and_frozen_weights_are_counted_right():
    network = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(8 * 4, 3))
    network[2].requires_grad_(requires_grad=False)
    info = model_info(network, torch.zeros(5, 4, 4, 4))
    assert info.macs == 8 * 4 * (2 * 9) + 32 * 3
    assert info.trainable_parameters == 8 * 2 * 9 + 8


def test_an_unknown_name_is_refused_with_the_nearest_and_what_is_accepted():
    spec = ImageSpec(channels=1, height=8, width=8)
    with pytest.raises(
        ConfigError, match=r"'resnet-18'; accepted for image data: auto, resnet18, resnet9, simple-cnn. Did you mean 'resnet18'"
    ):
        build_model("resnet-18", spec, 10, ModelConfig())
    with pytest.raises(ConfigError, match="'mlp'; accepted for image data"):
        build_model("mlp", spec, 10, ModelConfig())
