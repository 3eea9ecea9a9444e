"""Full precision for depthwise convolutions that a CPU trains faster in fp32 than in bf16."""

import torch
from torch import Tensor, nn


def train_depthwise_in_full_precision(module: nn.Module) -> None:
    """Make depthwise convolutions compute in fp32 even under bf16 autocast, for a CPU.

    oneDNN's bf16 backward pass is fast only for 3 x 3 at stride 1. For other depthwise convolutions
    the fp32 backward pass was two to four times as fast on a CPU with AMX (7 x 7: 94 ms instead of
    199 for 32 maps of 96 x 56 x 56); the forward pass takes the same time in both.

    Args:
        module: Changed in place; its state does not change.
    """
    for child in module.modules():
        if type(child) is nn.Conv2d and _is_slow(child):
            # Not hooks: autocast must be restored even when the convolution fails.
            child.__class__ = _InFullPrecision


def _is_slow(convolution: nn.Conv2d) -> bool:
    depthwise = 1 < convolution.groups == convolution.in_channels
    return depthwise and (convolution.kernel_size, convolution.stride) != ((3, 3), (1, 1))


class _InFullPrecision(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())
