"""Sizes and parameters by formula: equal to those of torch's layers and to published figures."""

import math

import pytest
import torch
from timm.layers import create_conv2d
from torch import nn

from transferkit.models.anatomy.arithmetic import (
    convolution_parameters,
    layer_arithmetic,
    output_side,
)


def test_convolution__alexnets_first_layer_has_the_published_parameters():
    first = nn.Conv2d(3, 96, 11, stride=4)
    formula = layer_arithmetic(first, (3, 227, 227))

    assert sum(convolution_parameters((11, 11), 3, 96)) == 34_944
    assert (formula.weights + formula.biases, formula.biases) == (34_944, 96)
    assert formula.output == (96, 55, 55)
    assert (formula.kernel, formula.stride, formula.padding) == ((11, 11), (4, 4), (0, 0))


LAYERS = [
    nn.Conv2d(6, 8, 3, stride=2, padding=1),
    nn.Conv2d(6, 8, (1, 7), padding=(0, 3), bias=False),
    nn.Conv2d(6, 12, 3, groups=3, dilation=2),
    nn.Conv2d(6, 6, 5, padding="same", dilation=2),
    nn.Conv2d(6, 6, 3, padding="valid"),
    create_conv2d(6, 8, 3, stride=2, padding="same"),
    nn.MaxPool2d(3, stride=2),
    nn.MaxPool2d(3, stride=2, ceil_mode=True),
    nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    nn.MaxPool2d(2, stride=2, ceil_mode=True, dilation=2),
    nn.AvgPool2d(3, stride=4, padding=1, ceil_mode=True),
    nn.AvgPool2d((2, 3)),
    nn.AdaptiveAvgPool2d((5, None)),
    nn.AdaptiveAvgPool2d(1),
    nn.BatchNorm2d(6),
    nn.BatchNorm2d(6, affine=False),
    nn.GroupNorm(2, 6),
    nn.Flatten(),
    nn.GELU(),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("sides", [(13, 13), (14, 17), (8, 23)])
def test_formulas__agree_with_torch(layer, sides):
    formula = layer_arithmetic(layer, (6, *sides))
    output = layer(torch.zeros(2, 6, *sides))
    counts = {name: p.numel() for name, p in layer.named_parameters()}

    assert formula.output == tuple(output.shape[1:])
    assert (formula.weights, formula.biases) == (counts.get("weight", 0), counts.get("bias", 0))


@pytest.mark.parametrize(
    "layer", [nn.Linear(6, 4), nn.Linear(6, 4, bias=False), nn.LayerNorm(6)], ids=str
)
def test_formulas__agree_with_torch_on_tokens(layer):
    formula = layer_arithmetic(layer, (10, 6))

    assert formula.output == tuple(layer(torch.zeros(1, 10, 6)).shape[1:])
    assert formula.weights + formula.biases == sum(p.numel() for p in layer.parameters())


def test_output_side__in_ceil_mode_no_window_starts_in_the_padding():
    for side in range(3, 30):
        for kernel, stride, padding in ((3, 2, 1), (2, 3, 1), (3, 4, 1), (2, 2, 0)):
            pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=True)
            positions = output_side(side, kernel, stride, padding, ceil_mode=True)
            assert positions == pool(torch.zeros(1, 1, side, side)).shape[2]
    # Without ceil mode, a window that does not fit is dropped.
    assert output_side(6, 3, 2) == math.floor((6 - 3) / 2) + 1 == 2


def test_layer_arithmetic__returns_none_without_a_formula():
    assert layer_arithmetic(nn.MultiheadAttention(8, 2), (4, 8)) is None
    assert layer_arithmetic(nn.Conv2d(3, 8, 3), (4, 8)) is None  # the input is no feature map
