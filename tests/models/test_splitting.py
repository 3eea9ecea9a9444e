"""Networks cut in two: the parts compute together what the network does."""

import pytest
import torch

from transferkit.models.freezing import BatchNorm, freeze, train_mode
from transferkit.models.phases import Unfreeze
from transferkit.models.sources import create_network
from transferkit.models.splitting import split

SPLIT = {
    "resnet18": ("resnet18", 32),
    "densenet (torchvision)": ("torchvision:densenet121", 32),
    "squeezenet (torchvision)": ("torchvision:squeezenet1_1", 64),
    "mobilenet v2": ("mobilenetv2_050", 32),
    "convnext": ("convnext_atto", 32),
    "vit": ("vit_tiny_patch16_224", 32),
    "vit with rotary positions": ("eva02_tiny_patch14_224", 28),
    "swin": ("swin_tiny_patch4_window7_224", 56),
    "edges8": ("edges8", 64),
}


def network_of(name, size, **changes):
    torch.manual_seed(0)
    weights = "pretrained" if name == "edges8" else "none"
    network = create_network(name, weights=weights, num_classes=5, image_size=size, **changes)
    with torch.no_grad():
        for key, buffer in network.module.named_buffers():  # not the 0 and 1 that norms begin with
            if key.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn_like(buffer))
            elif key.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand_like(buffer))
    return network


def frozen(network, unfreeze):
    stages = Unfreeze(unfreeze).stages(network)
    trained = {name for stage in stages for name in stage.parameters}
    freeze(network.module, trained)
    train_mode(network.module, BatchNorm.TRAIN)
    return trained


@pytest.mark.parametrize("name", SPLIT)
def test_split__the_parts_do_together_what_the_network_does(name):
    network = network_of(*SPLIT[name])
    images = torch.rand(3, *network.preprocessing.input_size)
    for unfreeze in ("head", "last:1"):
        trained = frozen(network, unfreeze)
        parts = split(network, trained)
        if name == "edges8" and unfreeze == "last:1":
            assert parts is None  # its only stage reads the images
            return

        held = {id(p) for p in parts.suffix.parameters()}
        assert {n for n, p in network.module.named_parameters() if id(p) in held} >= trained
        assert not any(p.requires_grad for p in parts.prefix.parameters())
        network.module.eval()
        with torch.no_grad():
            crossing = parts.prefix(images)
            assert crossing.shape[1:] == parts.shape
            assert torch.equal(parts.suffix(crossing), network.module(images))


def test_split__follows_the_modes_and_weights_of_the_network():
    network = network_of("mobilenetv2_050", 32)
    parts = split(network, frozen(network, "last:1"))
    crossing = torch.rand(4, *parts.shape)
    network.module.eval()
    before = parts.suffix(crossing)

    train_mode(network.module, BatchNorm.TRAIN)
    assert not torch.equal(parts.suffix(crossing), before)
    network.module.eval()
    with torch.no_grad():
        for parameter in network.module.get_classifier().parameters():
            parameter.zero_()
    assert not parts.suffix(crossing).any()


def test_split__cuts_by_single_parameters_too():
    network = network_of("resnet18", 32)
    parts = split(network, frozen(network, r"re:layer3\.1\.conv1"))

    assert parts.shape == (256, 2, 2)


@pytest.mark.parametrize(
    ("name", "unfreeze"), [("twins_svt_small", "head"), ("resnet18", "all"), ("hrnet", "last:1")]
)
def test_split__gives_none_where_it_cannot_be_done(name, unfreeze):
    network = network_of("hrnet_w18_small" if name == "hrnet" else name, 64)

    assert split(network, frozen(network, unfreeze)) is None
