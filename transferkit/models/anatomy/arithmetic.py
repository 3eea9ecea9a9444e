"""What a layer puts out and how many parameters it has, by formula from its settings.

The size of an output is that of Dumoulin and Visin, A guide to convolution arithmetic for deep
learning, 2016: floor((side + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

Sides = tuple[int, ...]
"""A number for each axis of a map, height and width."""

SAME: Literal["same"] = "same"
"""The padding with which only the stride makes a map smaller."""


@dataclass(frozen=True)
class LayerArithmetic:
    """A layer as its settings describe it.

    Attributes:
        output: Shape for one picture, without the batch.
        weights: Parameters that multiply.
        biases: Parameters that are added.
        kernel: Sides of its window; None where it has none.
        stride: From one position of the window to the next, in positions of its input.
        padding: Rows and columns added at each end, or `same`.
    """

    output: Sides
    weights: int = 0
    biases: int = 0
    kernel: Sides | None = None
    stride: Sides | None = None
    padding: Sides | Literal["same"] | None = None


def layer_arithmetic(module: nn.Module, entering: Sides) -> LayerArithmetic | None:
    """The formulas of one layer; None for kinds that have none here.

    Args:
        module: The layer.
        entering: Shape of its input for one picture, without the batch.
    """
    match module:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return _convolution(module, entering)
        case nn.MaxPool2d() | nn.AvgPool2d():
            return _pooling(module, entering)
        case nn.AdaptiveAvgPool2d(output_size=size) | nn.AdaptiveMaxPool2d(output_size=size):
            wanted = size if isinstance(size, tuple) else (size, size)
            own = entering[-2:]
            sides = (own[i] if side is None else side for i, side in enumerate(wanted))
            return LayerArithmetic((*entering[:-2], *sides))
        case nn.Linear(in_features=width, out_features=out):
            biases = out if module.bias is not None else 0
            return LayerArithmetic((*entering[:-1], out), width * out, biases)
        case nn.BatchNorm1d(num_features=channels) | nn.BatchNorm2d(num_features=channels):
            count = channels if module.affine else 0
            return LayerArithmetic(entering, count, count)
        case nn.GroupNorm(num_channels=channels):
            count = channels if module.affine else 0
            return LayerArithmetic(entering, count, count)
        case nn.LayerNorm(normalized_shape=shape):
            count = math.prod(shape) if module.elementwise_affine else 0
            return LayerArithmetic(entering, count, count if module.bias is not None else 0)
        case nn.Flatten(start_dim=1, end_dim=-1):
            return LayerArithmetic((math.prod(entering),))
    return LayerArithmetic(entering) if _is_elementwise(module) else None


def output_side(
    side: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    *,
    overhang: bool = False,
) -> int:
    """How many positions a window has along one side.

    Args:
        side: Of the input.
        kernel: Of the window.
        stride: From one position to the next.
        padding: At each end.
        dilation: From one number under the window to the next.
        overhang: Whether a last position counts of which a part lies beyond the padding, as in
            torch's ceil mode.
    """
    free = side + 2 * padding - dilation * (kernel - 1) - 1
    if not overhang:
        return free // stride + 1
    positions = math.ceil(free / stride) + 1
    # One that would begin in the padding at the far end sees nothing of the input.
    return positions - 1 if (positions - 1) * stride >= side + padding else positions


def convolution_parameters(
    kernel: Sides, in_channels: int, out_channels: int, groups: int = 1, *, bias: bool = True
) -> tuple[int, int]:
    """Weights and biases: a kernel over a group's channels and a bias, for each output channel.

    >>> sum(convolution_parameters((11, 11), 3, 96))  # AlexNet's first layer
    34944
    """
    weights = math.prod(kernel) * (in_channels // groups) * out_channels
    return weights, out_channels if bias else 0


def _convolution(
    module: nn.Conv1d | nn.Conv2d | nn.Conv3d, entering: Sides
) -> LayerArithmetic | None:
    counts = convolution_parameters(
        module.kernel_size,
        module.in_channels,
        module.out_channels,
        module.groups,
        bias=module.bias is not None,
    )
    return _windowed(module, entering, module.out_channels, counts)


def _pooling(module: nn.MaxPool2d | nn.AvgPool2d, entering: Sides) -> LayerArithmetic | None:
    return _windowed(module, entering, entering[0], (0, 0))


def _windowed(
    module: Any, entering: Sides, channels: int, counts: tuple[int, int]
) -> LayerArithmetic | None:
    sides = entering[1:]
    kernel, stride, dilation = (
        _each(getattr(module, name, 1), len(sides))
        for name in ("kernel_size", "stride", "dilation")
    )
    if not len(sides) == len(kernel) == len(stride):
        return None
    if _pads_same(module):
        output = tuple(math.ceil(side / step) for side, step in zip(sides, stride, strict=True))
        return LayerArithmetic((channels, *output), *counts, kernel, stride, SAME)
    padding = (0,) * len(sides) if module.padding == "valid" else _each(module.padding, len(sides))
    overhang = getattr(module, "ceil_mode", False)
    output = tuple(
        output_side(*settings, overhang=overhang)
        for settings in zip(sides, kernel, stride, padding, dilation, strict=True)
    )
    return LayerArithmetic((channels, *output), *counts, kernel, stride, padding)


def _pads_same(module: Any) -> bool:
    """Whether it pads as TensorFlow does; timm's layers that do so say it in their names."""
    by_name = type(module).__name__.endswith("Same")
    return module.padding == SAME or bool(getattr(module, "same_pad", by_name))


_ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardtanh, nn.Tanh),
    *(nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Softmax, nn.LocalResponseNorm),
)


def _is_elementwise(module: nn.Module) -> bool:
    timms = type(module).__module__.startswith("timm.layers.activations")
    return isinstance(module, _ELEMENTWISE) or (timms and not list(module.parameters()))


def _each(value: Any, count: int) -> Sides:
    return (value,) * count if isinstance(value, int) else tuple(value)
