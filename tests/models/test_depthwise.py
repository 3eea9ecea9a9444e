"""Depthwise convolutions that compute in fp32 under autocast."""

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from transferkit.devices import Precision
from transferkit.models.depthwise import train_depthwise_in_full_precision

CPU = torch.device("cpu")


def output_of(convolution: nn.Module, precision: Precision) -> torch.Tensor:
    """Return what the convolution computes under bf16 autocast once it is ready to be trained."""
    train_depthwise_in_full_precision(convolution, CPU, precision)
    images = torch.rand(1, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return convolution(images)


@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
def test_depthwise__computes_in_fp32_where_bf16_is_slow(kind):
    convolution = kind(4, 4, 3, stride=2, groups=4)
    images = torch.rand(1, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    expected = convolution(images)
    assert output_of(convolution, Precision.FP32).dtype == torch.bfloat16

    output = output_of(convolution, Precision.BF16)

    assert output.dtype == torch.float32
    assert torch.equal(output, expected)


@pytest.mark.parametrize(
    "convolution", [nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 5), nn.Conv2d(4, 4, 5, groups=2)]
)
def test_depthwise__leaves_other_convolutions_alone(convolution):
    assert output_of(convolution, Precision.BF16).dtype == torch.bfloat16
