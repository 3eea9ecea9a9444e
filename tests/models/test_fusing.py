"""Copies with fused norms compute what the network computes."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from untrained import create_random

from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.fusing import inference_copy


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv2_050", "densenet121", "tf_efficientnet_lite0"]
)
def test_inference_copy__fuses_norms_and_computes_the_same(name):
    network = create_random(name, 32)
    copy = inference_copy(network.module, torch.float32)
    images = torch.rand(2, 3, 32, 32)

    with torch.no_grad():
        expected = network.module(images)
        assert torch.allclose(copy(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max())
        assert torch.equal(network.module(images), expected)
    norms = [
        sum(isinstance(m, nn.BatchNorm2d) for m in x.modules()) for x in (network.module, copy)
    ]
    assert norms[1] < norms[0]
    assert norms[1] == 0 or name == "densenet121"  # whose norms come before the convolutions
    assert {n for n, _ in network.module.named_modules()} <= {n for n, _ in copy.named_modules()}


def test_inference_copy__keeps_modules_that_are_hooked():
    network = create_random("resnet18", 32)
    extractor = FeatureExtractor(network, ("layer2.0.conv1", "layer2.0.bn1"))
    copy = inference_copy(network.module, torch.float32, extractor.inner_modules)
    other = FeatureExtractor(replace(network, module=copy), extractor.layers)
    images = torch.rand(2, 3, 32, 32)

    with torch.no_grad():
        assert torch.allclose(other(images), extractor(images), rtol=1e-3, atol=1e-4)
