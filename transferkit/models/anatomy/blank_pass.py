"""What each module of a network does when a blank image passes through."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torchvision.ops import StochasticDepth

from transferkit.models.anatomy.arithmetic import LayerArithmetic, Sides, layer_arithmetic
from transferkit.models.anatomy.receptive_field import stride_and_field, track_receptive_fields
from transferkit.models.feature_extractor import HookPoint
from transferkit.models.network import Network


@dataclass(frozen=True)
class MeasuredTensor:
    """A tensor of the pass.

    Attributes:
        shape: Shape for one image.
        effective_stride: Pixels between neighbours of the map; None where it is no regular map.
        receptive_field: Side in pixels of what one element sees; None for the whole image.
        extractable: Whether features can be extracted from it: it has one row per image.
    """

    shape: Sides
    effective_stride: int | None
    receptive_field: int | None
    extractable: bool

    @classmethod
    def of(cls, value: Tensor) -> "MeasuredTensor":
        """Measure a tensor during the pass."""
        # Window attention passes more than one row per image to its inner modules.
        has_one_row = len(value) == 1
        shape = tuple(value.shape[1:] if has_one_row else value.shape)
        return cls(shape, *stride_and_field(value), has_one_row and 2 <= value.ndim <= 4)


@dataclass(frozen=True)
class ModuleRecord:
    """What a module did in the pass.

    Attributes:
        output: Its output, in the last call.
        formula: What its settings determine; None without formulas.
        agrees: Whether the formulas gave the output's shape in every call.
        computes: Whether the module computed something itself, not only its inner modules.
    """

    output: MeasuredTensor
    formula: LayerArithmetic | None
    agrees: bool
    computes: bool


@dataclass
class BlankPass:
    """The record of one forward pass of a blank image.

    Attributes:
        modules: Name -> what the module did, in the order in which the modules ended.
        tensors: Inputs and outputs of the modules.
        running: Modules that have begun and not ended, outermost first.
        containers: Modules inside which other modules ran.
    """

    modules: dict[str, ModuleRecord] = field(default_factory=dict)
    tensors: dict[HookPoint, MeasuredTensor] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    containers: set[str] = field(default_factory=set)

    def at(self, point: HookPoint | None) -> MeasuredTensor | None:
        """Return the tensor at a hook point; None without a point or a tensor there."""
        return self.tensors.get(point) if point else None

    def enter(self, name: str, module: nn.Module, args: Any) -> None:
        """Record the start of a module; a forward pre-hook."""
        self.containers.update(self.running[-1:])
        self.running.append(name)
        if args and isinstance(args[0], Tensor):
            self.tensors[HookPoint(name, is_input=True)] = MeasuredTensor.of(args[0])

    def leave(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        """Record the end of a module; a forward hook."""
        self.running.pop()
        value = output[0] if isinstance(output, tuple) and output else output
        if not isinstance(value, Tensor) or value.ndim < 2:
            return
        measured = MeasuredTensor.of(value)
        measured = replace(measured, extractable=measured.extractable and value is output)
        self.tensors[HookPoint(name, is_input=False)] = measured
        if not isinstance(module, _WITHOUT_EFFECT):
            formula = _formula(module, args)
            before = self.modules.pop(name, None)
            self.modules[name] = ModuleRecord(
                measured,
                formula,
                agrees=formula is not None
                and formula.output == tuple(value.shape[1:])
                and (before is None or before.agrees),
                computes=formula is not None or name not in self.containers,
            )


def _formula(module: nn.Module, args: Any) -> LayerArithmetic | None:
    if not args or not isinstance(args[0], Tensor) or args[0].ndim < 2:
        return None
    return layer_arithmetic(module, tuple(args[0].shape[1:]))


_WITHOUT_EFFECT = (nn.Identity, _DropoutNd, DropPath, StochasticDepth)
"""Modules that do not change their input in eval mode."""


def trace_modules(network: Network) -> BlankPass:
    """Pass a blank image through a network and record every module."""
    record, handles = BlankPass(), []
    for name, module in network.module.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(partial(record.enter, name)))
            handles.append(module.register_forward_hook(partial(record.leave, name)))
    image = network.blank_image()
    try:
        with track_receptive_fields(image):
            network.module(image)
    finally:
        for handle in handles:
            handle.remove()
    return record
