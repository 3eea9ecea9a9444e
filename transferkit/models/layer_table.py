"""The layers of a network in order of execution, each with its output, stride and receptive field.

A blank image runs through, and every operation on the way says how far a number of its output
looks back. The recurrence is that of Araujo, Norris and Sim, Computing Receptive Fields of
Convolutional Neural Networks, Distill 2019: a window of k pixels and step s, over numbers that see
`size` pixels and lie `stride` pixels apart, sees size + (k - 1) * stride and lies stride * s apart.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from transferkit.errors import OptionError
from transferkit.models.features import (
    POOLED,
    PRELOGITS,
    FeatureExtractor,
    Point,
    Pool,
    stage_points,
)
from transferkit.models.network import Network


@dataclass(frozen=True)
class LayerRow:
    """A layer that features can be taken from.

    Attributes:
        name: What `--layer` takes.
        kind: The module's class; for a stage its modules.
        output: Shape for one picture, without the batch.
        stride: Pixels between neighbours of its map; None where it has no regular map.
        receptive_field: Side in pixels of what one number of it sees; None where that is the whole
            picture, or no square.
        parameters: How many numbers its parameters hold, its parts' included.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    stride: int | None
    receptive_field: int | None
    parameters: int


@dataclass(frozen=True)
class _Window:
    """What the numbers of a map see, each pair for height and width.

    Attributes:
        stride: Pixels between two neighbours.
        size: Pixels that one of them sees; None for the whole picture.
        positions: How many there are.
    """

    stride: tuple[int, int]
    size: tuple[int, int] | None
    positions: int

    def slid(self, kernel: Any, step: Any, dilation: Any, positions: int) -> "_Window":
        """The window behind a convolution or pooling."""
        kernel, step, dilation = (_pair(value) for value in (kernel, step, dilation))
        stride = (self.stride[0] * step[0], self.stride[1] * step[1])
        if self.size is None:
            return _Window(stride, None, positions)
        height, width = (
            self.size[i] + (kernel[i] - 1) * dilation[i] * self.stride[i] for i in (0, 1)
        )
        return _Window(stride, (height, width), positions)


def list_layers(network: Network) -> list[LayerRow]:
    """Every layer that a picture goes through and that gives one tensor.

    First `pooled`, `prelogits` and the stages, then the modules in order of execution, without
    those that leave their input as it is. Of a module that runs twice the last time is listed.
    """
    seen = _trace(network)
    modules = dict(network.module.named_modules())
    kinds = {POOLED: "the last map or tokens, pooled", PRELOGITS: "what enters the head"}
    rows = [row for name, kind in kinds.items() for row in _plain_rows(network, name, kind)]
    points = stage_points(network)
    named = {stage.name for stage in network.stages if stage.name in points}
    for stage in network.stages:
        if (point := points.get(stage.name)) in seen:
            modules_told = ", ".join(stage.modules[:3]) + (" ..." if stage.modules[3:] else "")
            sizes = (network.module.get_parameter(p).numel() for p in stage.parameters)
            rows.append(LayerRow(stage.name, modules_told, *seen[point], sum(sizes)))
    for point, found in seen.items():
        module = modules[point.module]
        # A module with the name of a stage cannot be named: the stage is taken.
        skipped = point.entering or point.module in named
        if not skipped and not isinstance(module, nn.Identity | nn.Dropout):
            size = sum(p.numel() for p in module.parameters())
            rows.append(LayerRow(point.module, type(module).__name__, *found, size))
    return rows


def _plain_rows(network: Network, layer: str, kind: str) -> list[LayerRow]:
    """The layer's row; none where it gives no features, as in networks of two branches."""
    parameters = sum(
        network.module.get_parameter(name).numel()
        for stage in network.stages[:-1]
        for name in stage.parameters
    )
    try:
        shape = FeatureExtractor(network, (layer,), Pool.AUTO).shape
    except OptionError:
        return []
    return [LayerRow(layer, kind, shape, None, None, parameters)]


_Seen = dict[Point, tuple[tuple[int, ...], int | None, int | None]]


def _trace(network: Network) -> _Seen:
    """Shape, stride and receptive field wherever one tensor enters or leaves a module."""
    seen: _Seen = {}

    def keep(name: str, entering: bool) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, output: object = None) -> None:
            value = (args[0] if args else None) if entering else output
            if isinstance(value, Tensor) and 2 <= value.ndim <= 4 and len(value) == 1:
                point, window = Point(name, entering), _window(value)
                stride = size = None
                if isinstance(window, _Window) and window.positions > 1:
                    stride, size = window.stride[0], window.size and max(window.size)
                seen.pop(point, None)
                seen[point] = (tuple(value.shape[1:]), stride, size)

        return hook

    handles = []
    for name, module in network.module.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(keep(name, True)))
            handles.append(module.register_forward_hook(keep(name, False)))
    image = network.blank_image()
    _set_window(image, _Window((1, 1), (1, 1), image[0, 0].numel()))
    try:
        # Not in inference mode, where composite operations would arrive whole.
        with torch.no_grad(), _Tracer():  # type: ignore[no-untyped-call]
            network.module(image)
    finally:
        for handle in handles:
            handle.remove()
    return seen


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


def _joined(windows: list[object]) -> _Window | None:
    """What sees all that these see; None where one of them is no regular map."""
    known = [window for window in windows if isinstance(window, _Window)]
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


def _behind(name: str, window: _Window, args: tuple[Any, ...], output: Tensor) -> _Window | None:
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
