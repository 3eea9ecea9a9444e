"""Output shape and parameter counts of a layer, by formula from its settings.

The size of an output follows Dumoulin and Visin, A guide to convolution arithmetic for deep
learning, 2016: floor((side + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

Sides = tuple[int, ...]
"""One number per axis of a map: height and width."""

SAME: Literal["same"] = "same"
"""Padding with which only the stride makes a map smaller."""


@dataclass(frozen=True)
class LayerArithmetic:
    """What a layer's settings determine.

    Attributes:
        output: Shape of the output for one image.
        weights: Number of parameters that multiply.
        biases: Number of parameters that are added.
        kernel: Sides of the window; None for a layer without a window.
        stride: Distance between neighbouring windows, in positions of the input.
        padding: Rows and columns added at each end, or `same`.
    """

    output: Sides
    weights: int = 0
    biases: int = 0
    kernel: Sides | None = None
    stride: Sides | None = None
    padding: Sides | Literal["same"] | None = None


def layer_arithmetic(module: nn.Module, input_shape: Sides) -> LayerArithmetic | None:
    """Return what a layer's settings determine; None for a kind without formulas here.

    Args:
        module: The layer.
        input_shape: Shape of the layer's input for one image.
    """
    match module:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return _convolution(module, input_shape)
        case nn.MaxPool2d() | nn.AvgPool2d():
            return _pooling(module, input_shape)
        case nn.AdaptiveAvgPool2d(output_size=size) | nn.AdaptiveMaxPool2d(output_size=size):
            wanted = size if isinstance(size, tuple) else (size, size)
            own = input_shape[-2:]
            sides = (own[i] if side is None else side for i, side in enumerate(wanted))
            return LayerArithmetic((*input_shape[:-2], *sides))
        case nn.Linear(in_features=width, out_features=out):
            biases = out if module.bias is not None else 0
            return LayerArithmetic((*input_shape[:-1], out), width * out, biases)
        case nn.BatchNorm1d(num_features=channels) | nn.BatchNorm2d(num_features=channels):
            count = channels if module.affine else 0
            return LayerArithmetic(input_shape, count, count)
        case nn.GroupNorm(num_channels=channels):
            count = channels if module.affine else 0
            return LayerArithmetic(input_shape, count, count)
        case nn.LayerNorm(normalized_shape=shape):
            count = math.prod(shape) if module.elementwise_affine else 0
            return LayerArithmetic(input_shape, count, count if module.bias is not None else 0)
        case nn.Flatten(start_dim=1, end_dim=-1):
            return LayerArithmetic((math.prod(input_shape),))
    return LayerArithmetic(input_shape) if _is_elementwise(module) else None


def output_side(
    side: int, window: int, stride: int = 1, padding: int = 0, *, ceil_mode: bool = False
) -> int:
    """Return the number of window positions along one side.

    Args:
        side: Side of the input.
        window: Side of the window, gaps included: dilation * (kernel - 1) + 1.
        stride: Distance between neighbouring windows.
        padding: Padding at each end.
        ceil_mode: Whether a last window that extends beyond the padding counts, as in torch.
    """
    free = side + 2 * padding - window
    if not ceil_mode:
        return free // stride + 1
    positions = math.ceil(free / stride) + 1
    # A window that would begin in the padding at the far end sees nothing of the input.
    return positions - 1 if (positions - 1) * stride >= side + padding else positions


def convolution_parameters(
    kernel: Sides, in_channels: int, out_channels: int, groups: int = 1, *, bias: bool = True
) -> tuple[int, int]:
    """Return the numbers of weights and biases of a convolution.

    Each output channel has one kernel over the input channels of its group, and one bias.

    >>> sum(convolution_parameters((11, 11), 3, 96))  # AlexNet's first layer
    34944
    """
    weights = math.prod(kernel) * (in_channels // groups) * out_channels
    return weights, out_channels if bias else 0


def _convolution(
    module: nn.Conv1d | nn.Conv2d | nn.Conv3d, input_shape: Sides
) -> LayerArithmetic | None:
    counts = convolution_parameters(
        module.kernel_size,
        module.in_channels,
        module.out_channels,
        module.groups,
        bias=module.bias is not None,
    )
    return _windowed(module, input_shape, module.out_channels, counts)


def _pooling(module: nn.MaxPool2d | nn.AvgPool2d, input_shape: Sides) -> LayerArithmetic | None:
    return _windowed(module, input_shape, input_shape[0], (0, 0))


def _windowed(
    module: Any, input_shape: Sides, channels: int, counts: tuple[int, int]
) -> LayerArithmetic | None:
    sides = input_shape[1:]
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
    ceil_mode = getattr(module, "ceil_mode", False)
    window = [gap * (side - 1) + 1 for gap, side in zip(dilation, kernel, strict=True)]
    output = tuple(
        output_side(*settings, ceil_mode=ceil_mode)
        for settings in zip(sides, window, stride, padding, strict=True)
    )
    return LayerArithmetic((channels, *output), *counts, kernel, stride, padding)


def _pads_same(module: Any) -> bool:
    """Return whether a layer pads as TensorFlow does; timm names such layers `...Same`."""
    by_name = type(module).__name__.endswith("Same")
    return module.padding == SAME or bool(getattr(module, "same_pad", by_name))


_ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardtanh, nn.Tanh),
    *(nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Softmax, nn.LocalResponseNorm),
)


def _is_elementwise(module: nn.Module) -> bool:
    is_timm_activation = type(module).__module__.startswith("timm.layers.activations")
    return isinstance(module, _ELEMENTWISE) or (
        is_timm_activation and not list(module.parameters())
    )


def _each(value: Any, count: int) -> Sides:
    return (value,) * count if isinstance(value, int) else tuple(value)
