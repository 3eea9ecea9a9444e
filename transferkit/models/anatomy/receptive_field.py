"""How far every number that a network computes looks back into the picture.

A blank image runs through, and every operation on the way says what a number of its output sees.
The recurrence is that of Araujo, Norris and Sim, Computing Receptive Fields of Convolutional Neural
Networks, Distill 2019: a window of k pixels and step s, over numbers that see `size` pixels and lie
`stride` pixels apart, sees size + (k - 1) * stride and lies stride * s apart.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def receptive_fields(image: Tensor) -> Iterator[None]:
    """Within the block, what is computed from a picture of (1, 3, H, W) knows its `seen_by`."""
    _set_window(image, Window((1, 1), (1, 1), image[0, 0].numel()))
    # Not in inference mode, where composite operations would arrive whole.
    with torch.no_grad(), _Tracer():  # type: ignore[no-untyped-call]
        yield


def seen_by(tensor: Tensor) -> tuple[int | None, int | None]:
    """Effective stride and receptive field of what was computed in `receptive_fields`.

    Returns:
        Pixels between neighbours, or None where there is no regular map of several positions; and
        the side in pixels of what one number sees, or None where that is the whole picture.
    """
    window = _window(tensor)
    if not isinstance(window, Window) or window.positions < 2:
        return None, None
    return window.stride[0], window.size and max(window.size)


@dataclass(frozen=True)
class Window:
    """What the numbers of a map see, each pair for height and width.

    Attributes:
        stride: Pixels between two neighbours.
        size: Pixels that one of them sees; None for the whole picture.
        positions: How many there are.
    """

    stride: tuple[int, int]
    size: tuple[int, int] | None
    positions: int

    def slid(self, kernel: Any, step: Any, dilation: Any, positions: int) -> "Window":
        """The window behind a convolution or pooling."""
        kernel, step, dilation = (_pair(value) for value in (kernel, step, dilation))
        stride = (self.stride[0] * step[0], self.stride[1] * step[1])
        if self.size is None:
            return Window(stride, None, positions)
        height, width = (
            self.size[i] + (kernel[i] - 1) * dilation[i] * self.stride[i] for i in (0, 1)
        )
        return Window(stride, (height, width), positions)


_NO_PICTURE = object()
"""The window of what does not depend on the picture, such as weights."""


def _window(tensor: Tensor) -> object:
    return getattr(tensor, "_receptive_window", _NO_PICTURE)


def _set_window(tensor: Tensor, window: object) -> None:
    # A tensor keeps its attributes for as long as anything of the pass still refers to it.
    tensor._receptive_window = window  # type: ignore[attr-defined]


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands windows on from the inputs of every operation to its outputs."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        windows = [w for t in _tensors([*args, kwargs]) if (w := _window(t)) is not _NO_PICTURE]
        if windows:
            outputs = list(_tensors([output]))
            window = _joined(windows)
            if window is not None and outputs:
                window = _behind(func.overloadpacket.__name__, window, args, outputs[0])
            for tensor in outputs:
                _set_window(tensor, window)
        return output


def _joined(windows: list[object]) -> Window | None:
    """What sees all that these see; None where one of them is no regular map."""
    known = [window for window in windows if isinstance(window, Window)]
    if len(known) < len(windows):
        return None
    finest = max(known, key=lambda window: window.positions)
    sizes = [window.size for window in known if window.size]
    if len(sizes) < len(known) or any(window.stride != finest.stride for window in known):
        return replace(finest, size=None)
    return replace(finest, size=(max(h for h, _ in sizes), max(w for _, w in sizes)))


_KEEP_POSITIONS = frozenset((
    # by element
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


def _behind(name: str, window: Window, args: tuple[Any, ...], output: Tensor) -> Window | None:
    """The window of an operation's output; None where that is no regular map any more.

    Args:
        name: The operation, as torch's dispatcher calls it.
        window: What its inputs see together.
        args: What it was called with.
        output: What it gave.
    """
    positions = output[0, 0].numel() if output.ndim == 4 else 1
    match name:
        case "convolution" if not args[6] and output.ndim == 4:
            return window.slid(args[1].shape[2:], args[3], args[5], positions)
        case "max_pool2d_with_indices" | "avg_pool2d":
            kernel, step = args[1], (args[2] if len(args) > 2 and args[2] else args[1])
            dilation = args[4] if name != "avg_pool2d" and len(args) > 4 else 1
            return window.slid(kernel, step, dilation, positions)
        case "_adaptive_avg_pool2d" if output.shape == args[0].shape:
            return window
        case "mean" | "_adaptive_avg_pool2d" | "amax" if positions == 1:
            return replace(window, size=None, positions=1)
        case "view" | "_unsafe_view" | "reshape":
            # A map that becomes one vector: whatever reads it sees all of it.
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
