"""Full precision for depthwise convolutions that a CPU trains faster in fp32 than in bf16."""

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from transferkit.devices import Precision


def train_depthwise_in_full_precision(
    module: nn.Module, device: torch.device, precision: Precision
) -> None:
    """Make depthwise convolutions compute in fp32 even under autocast, if that is faster.

    It is where a CPU trains in bf16: oneDNN's bf16 backward pass is fast only for 3 x 3 at stride
    1. For other depthwise convolutions the fp32 backward pass was two to four times as fast on a
    CPU with AMX (7 x 7: 94 ms instead of 199 for 32 maps of 96 x 56 x 56), and two to fifteen times
    on one with AVX-512 BF16 (5 x 5 at stride 2: 10 ms instead of 154 for 32 maps of 672 x 14 x 14).
    The forward pass takes about the same time in both.

    Args:
        module: Changed in place; its state does not change.
        device: Where it is trained.
        precision: Precision that it is trained in.
    """
    if device.type != "cpu" or precision is not Precision.BF16:
        return
    for child in module.modules():
        if isinstance(child, nn.Conv2d) and _is_slow(child):
            # Not hooks: autocast must be restored even when the convolution fails.
            child.__class__ = _IN_FULL_PRECISION.get(type(child), type(child))


def _is_slow(convolution: nn.Conv2d) -> bool:
    depthwise = 1 < convolution.groups == convolution.in_channels
    return depthwise and (convolution.kernel_size, convolution.stride) != ((3, 3), (1, 1))


class _InFullPrecision(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


class _SamePaddingInFullPrecision(_InFullPrecision, Conv2dSame):  # type: ignore[misc]
    """The same for TensorFlow's padding, which networks ported from it have at stride 2."""


_IN_FULL_PRECISION: dict[type[nn.Conv2d], type[nn.Conv2d]] = {
    nn.Conv2d: _InFullPrecision,
    Conv2dSame: _SamePaddingInFullPrecision,
}
