"""Folding a temperature: the logits are divided, whatever the head looks like."""

import pytest
import torch
from torch import nn
from untrained import create_random

from transferkit.errors import TransferKitError
from transferkit.models.fold_temperature import fold_temperature

HEADS = {
    "a linear layer": ("resnet18", 32),
    "a linear layer (torchvision)": ("torchvision:resnet18", 32),
    "a convolution, ReLU and pooling (torchvision)": ("torchvision:squeezenet1_1", 64),
    "a convolution": ("mobilenetv3_small_050", 32),
    "several layers": ("torchvision:mobilenet_v3_small", 32),
    "two averaged heads": ("deit_tiny_distilled_patch16_224", 32),
    "two averaged heads with norms": ("levit_128s", 64),
    "a transformer's": ("vit_tiny_patch16_224", 32),
    "on edges": ("edges8", 32),
}


@pytest.mark.parametrize(("name", "size"), HEADS.values(), ids=HEADS)
def test_fold_temperature__divides_the_logits(name, size):
    network = create_random(name, size)
    images = torch.rand(3, 3, size, size)
    with torch.no_grad():
        before = network.module(images)
        fold_temperature(network, 0.4)
        after = network.module(images)

    torch.testing.assert_close(after, before / 0.4, rtol=1e-4, atol=1e-5)
    assert before.abs().max() > 1e-3


def test_fold_temperature__changes_nothing_but_the_head():
    network = create_random("resnet18", 32)
    before = network.backbone_digest()

    fold_temperature(network, 2.0)

    assert network.backbone_digest() == before


def test_fold_temperature__refuses_a_head_that_it_cannot_divide():
    network = create_random("resnet18", 32)
    network.module.fc = nn.Sequential(network.module.fc, nn.Tanh())
    before = {name: value.clone() for name, value in network.module.state_dict().items()}

    with pytest.raises(TransferKitError, match="resnet18: its logits are not proportional"):
        fold_temperature(network, 2.0)

    for name, value in network.module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
