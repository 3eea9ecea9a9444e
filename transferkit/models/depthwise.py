"""Depthwise convolutions, where a CPU trains them faster in full precision than in bf16."""

import torch
from torch import Tensor, nn


def train_depthwise_in_full_precision(module: nn.Module) -> None:
    """Let depthwise convolutions compute in fp32 also under bf16 autocast, on a CPU.

    oneDNN has a fast backward pass in bf16 for 3 x 3 at stride 1 alone. Of others the fp32 one was
    two to four times as fast on a CPU with AMX (7 x 7: 94 ms in place of 199 for 32 maps of
    96 x 56 x 56), while their forward pass takes as long.

    Args:
        module: Changed in place; its state stays as it is.
    """
    for child in module.modules():
        if type(child) is nn.Conv2d and _is_slow(child):
            # Not a hook: autocast must come back also when the convolution fails.
            child.__class__ = _InFullPrecision


def _is_slow(convolution: nn.Conv2d) -> bool:
    depthwise = 1 < convolution.groups == convolution.in_channels
    return depthwise and (convolution.kernel_size, convolution.stride) != ((3, 3), (1, 1))


class _InFullPrecision(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())
