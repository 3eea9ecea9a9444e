"""A cut network: its two parts together compute what the whole network computes."""

import pytest
import torch
from untrained import create_random

from transferkit.models.freezing import BatchNorm, freeze, train_mode
from transferkit.models.network_cut import cut_network
from transferkit.models.unfreeze import Unfreeze

CUT = {
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


def frozen(network, unfreeze):
    stages = Unfreeze(unfreeze).stages(network)
    trained = {name for stage in stages for name in stage.parameters}
    freeze(network.module, trained)
    train_mode(network.module, BatchNorm.TRAIN)
    return trained


@pytest.mark.parametrize("name", CUT)
def test_cut_network__the_parts_compute_what_the_network_computes(name):
    network = create_random(*CUT[name])
    images = torch.rand(3, *network.preprocessing.input_size)
    for unfreeze in ("head", "last:1"):
        trained = frozen(network, unfreeze)
        cut = cut_network(network, trained)
        if name == "edges8" and unfreeze == "last:1":
            assert cut is None  # its only stage reads the images
            return

        held = {id(p) for p in cut.suffix.parameters()}
        assert {n for n, p in network.module.named_parameters() if id(p) in held} >= trained
        assert not any(p.requires_grad for p in cut.prefix.parameters())
        network.module.eval()
        with torch.no_grad():
            crossing = cut.prefix(images)
            assert crossing.shape[1:] == cut.shape
            assert torch.equal(cut.suffix(crossing), network.module(images))


def test_cut_network__follows_the_modes_and_weights_of_the_network():
    network = create_random("mobilenetv2_050", 32)
    cut = cut_network(network, frozen(network, "last:1"))
    crossing = torch.rand(4, *cut.shape)
    network.module.eval()
    before = cut.suffix(crossing)

    train_mode(network.module, BatchNorm.TRAIN)
    assert not torch.equal(cut.suffix(crossing), before)
    network.module.eval()
    with torch.no_grad():
        for parameter in network.module.get_classifier().parameters():
            parameter.zero_()
    assert not cut.suffix(crossing).any()


def test_cut_network__cuts_within_a_stage_too():
    network = create_random("resnet18", 32)
    cut = cut_network(network, frozen(network, r"re:layer3\.1\.conv1"))

    assert cut.shape == (256, 2, 2)


@pytest.mark.parametrize(
    ("name", "unfreeze"), [("twins_svt_small", "head"), ("resnet18", "all"), ("hrnet", "last:1")]
)
def test_cut_network__returns_none_if_the_network_cannot_be_cut(name, unfreeze):
    network = create_random("hrnet_w18_small" if name == "hrnet" else name, 64)

    assert cut_network(network, frozen(network, unfreeze)) is None
