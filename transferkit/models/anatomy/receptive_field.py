"""Receptive fields: which part of the image each element of a feature map depends on.

They are tracked through every operation while a blank image passes through the network. The
recurrence is that of Araujo, Norris and Sim, Computing Receptive Fields of Convolutional Neural
Networks, Distill 2019. Let the elements of a map see `size` pixels and lie `stride` pixels apart. A
window of k elements and step s over that map sees size + (k - 1) * stride pixels, and neighbouring
windows lie stride * s pixels apart.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def track_receptive_fields(image: Tensor) -> Iterator[None]:
    """Track the receptive fields of all tensors that the block computes from an image.

    Args:
        image: (1, 3, H, W).
    """
    _set_window(image, Window((1, 1), (1, 1), image[0, 0].numel()))
    # Not in inference mode, where composite operations are dispatched without being decomposed.
    with torch.no_grad(), _Tracer():  # type: ignore[no-untyped-call]
        yield


def stride_and_field(tensor: Tensor) -> tuple[int | None, int | None]:
    """Return the effective stride and the receptive field of a tensor that was tracked.

    Returns:
        Pixels between neighbours, or None unless the tensor is a regular map of several positions;
        and the side in pixels of what one element sees, or None where that is the whole image.
    """
    window = _window(tensor)
    if not isinstance(window, Window) or window.positions < 2:
        return None, None
    return window.stride[0], window.size and max(window.size)


@dataclass(frozen=True)
class Window:
    """What the elements of a map see of the image; pairs are (height, width).

    Attributes:
        stride: Pixels between two neighbours.
        size: Pixels that one element sees; None for the whole image.
        positions: Number of positions of the map.
    """

    stride: tuple[int, int]
    size: tuple[int, int] | None
    positions: int

    def after(self, kernel: Any, step: Any, dilation: Any, positions: int) -> "Window":
        """Return the window after a convolution or pooling."""
        kernel, step, dilation = (_pair(value) for value in (kernel, step, dilation))
        stride = (self.stride[0] * step[0], self.stride[1] * step[1])
        if self.size is None:
            return Window(stride, None, positions)
        height, width = (
            self.size[i] + (kernel[i] - 1) * dilation[i] * self.stride[i] for i in (0, 1)
        )
        return Window(stride, (height, width), positions)


_NO_IMAGE = object()
"""The window of tensors that do not depend on the image, such as weights."""


def _window(tensor: Tensor) -> object:
    return getattr(tensor, "_receptive_window", _NO_IMAGE)


def _set_window(tensor: Tensor, window: object) -> None:
    # A tensor keeps its attributes as long as anything in the pass refers to it.
    tensor._receptive_window = window  # type: ignore[attr-defined]


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sets the windows of every operation's outputs from those of its inputs."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        windows = [w for t in _tensors([*args, kwargs]) if (w := _window(t)) is not _NO_IMAGE]
        if windows:
            outputs = list(_tensors([output]))
            window = _combined(windows)
            if window is not None and outputs:
                window = _output_window(func.overloadpacket.__name__, window, args, outputs[0])
            for tensor in outputs:
                _set_window(tensor, window)
        return output


def _combined(windows: list[object]) -> Window | None:
    """Return the window that covers all of these; None where one of them is no regular map."""
    known = [window for window in windows if isinstance(window, Window)]
    if len(known) < len(windows):
        return None
    finest = max(known, key=lambda window: window.positions)
    sizes = [window.size for window in known if window.size]
    if len(sizes) < len(known) or any(window.stride != finest.stride for window in known):
        return replace(finest, size=None)
    return replace(finest, size=(max(h for h, _ in sizes), max(w for _, w in sizes)))


_KEEP_POSITIONS = frozenset((
    # elementwise
    *("add", "add_", "sub", "mul", "mul_", "div", "div_", "pow", "exp", "erf", "neg", "clamp"),
    *("clamp_", "clamp_min", "relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu"),
    *("leaky_relu_", "elu", "gelu", "silu", "silu_", "mish", "sigmoid", "sigmoid_", "tanh"),
    *("hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "native_dropout", "clone", "copy_"),
    *("detach", "alias", "_to_copy", "contiguous", "cat", "constant_pad_nd"),
    # over channels
    *("native_batch_norm", "_native_batch_norm_legit_no_training", "native_layer_norm"),
    *("batch_norm", "layer_norm", "cudnn_batch_norm"),
    # other views of the same positions
    *("permute", "transpose", "t", "squeeze", "unsqueeze", "expand", "select", "split", "chunk"),
    *("split_with_sizes", "unbind"),
))  # fmt: skip


def _output_window(
    name: str, window: Window, args: tuple[Any, ...], output: Tensor
) -> Window | None:
    """Return the window of an operation's output; None where that is no longer a regular map.

    Args:
        name: The operation's name in torch's dispatcher.
        window: The combined window of its inputs.
        args: Its arguments.
        output: Its output.
    """
    positions = output[0, 0].numel() if output.ndim == 4 else 1
    match name:
        case "convolution" if not args[6] and output.ndim == 4:
            return window.after(args[1].shape[2:], args[3], args[5], positions)
        case "max_pool2d_with_indices" | "avg_pool2d":
            kernel, step = args[1], (args[2] if len(args) > 2 and args[2] else args[1])
            dilation = args[4] if name != "avg_pool2d" and len(args) > 4 else 1
            return window.after(kernel, step, dilation, positions)
        case "_adaptive_avg_pool2d" if output.shape == args[0].shape:
            return window
        case "mean" | "_adaptive_avg_pool2d" | "amax" if positions == 1:
            return replace(window, size=None, positions=1)
        case "view" | "_unsafe_view" | "reshape":
            # Flattened to one vector: every layer that reads it sees the whole map.
            flat = output.ndim == 2 and len(output) == 1
            return None if flat and window.positions > 1 else window
        case "addmm" | "mm":
            rows = args[1 if name == "addmm" else 0].shape[0]
            return window if rows == window.positions else None
        case "slice" if len(args) < 5 or args[4] == 1:
            return window
        case _:
            return window if name in _KEEP_POSITIONS else None


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def _pair(value: Any) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return int(values[0]), int(values[-1])
