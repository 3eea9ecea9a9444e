"""What each module of a network does in a pass of a blank image."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torchvision.ops import StochasticDepth

from transferkit.models.anatomy.arithmetic import LayerArithmetic, Sides, layer_arithmetic
from transferkit.models.anatomy.receptive_field import receptive_fields, seen_by
from transferkit.models.feature_extractor import Point
from transferkit.models.network import Network


@dataclass(frozen=True)
class Measured:
    """A tensor of the pass.

    Attributes:
        shape: For one picture.
        seen: Effective stride and receptive field.
        takable: Whether it has one row for each picture.
    """

    shape: Sides
    seen: tuple[int | None, int | None]
    takable: bool

    @classmethod
    def of(cls, value: Tensor) -> "Measured":
        """Measure a tensor within the pass."""
        # Attention in windows hands more than a row a picture to the modules inside.
        alone = len(value) == 1
        shape = tuple(value.shape[1:] if alone else value.shape)
        return cls(shape, seen_by(value), alone and 2 <= value.ndim <= 4)


@dataclass(frozen=True)
class Done:
    """What a module did in the pass.

    Attributes:
        output: What it gave.
        formula: What the formulas say of it.
        agrees: Whether they said so of the outputs of all its calls.
        computes: Whether it did something itself.
    """

    output: Measured
    formula: LayerArithmetic | None
    agrees: bool
    computes: bool


@dataclass
class BlankPass:
    """A pass of a blank image.

    Attributes:
        modules: What the modules did, in the order in which they ended.
        points: Every place where a tensor entered or left one.
        running: Modules that have begun and not ended, outermost first.
        containers: Modules inside which others ran.
    """

    modules: dict[str, Done] = field(default_factory=dict)
    points: dict[Point, Measured] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    containers: set[str] = field(default_factory=set)

    def at(self, point: Point | None) -> Measured | None:
        """What was there; None where the point is none, or no tensor went through."""
        return self.points.get(point) if point else None

    def enter(self, name: str, module: nn.Module, args: Any) -> None:
        """A hook before a module runs."""
        self.containers.update(self.running[-1:])
        self.running.append(name)
        if args and isinstance(args[0], Tensor):
            self.points[Point(name, entering=True)] = Measured.of(args[0])

    def leave(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        """A hook behind it."""
        self.running.pop()
        value = output[0] if isinstance(output, tuple) and output else output
        if not isinstance(value, Tensor) or value.ndim < 2:
            return
        measured = Measured.of(value)
        measured = replace(measured, takable=measured.takable and value is output)
        self.points[Point(name, entering=False)] = measured
        if not isinstance(module, _WITHOUT_EFFECT):
            formula = _formula(module, args)
            before = self.modules.pop(name, None)
            self.modules[name] = Done(
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
"""Modules that leave their input as it is when nothing is trained."""


def trace_modules(network: Network) -> BlankPass:
    """Run a blank image through and watch every module."""
    passed, handles = BlankPass(), []
    for name, module in network.module.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(partial(passed.enter, name)))
            handles.append(module.register_forward_hook(partial(passed.leave, name)))
    image = network.blank_image()
    try:
        with receptive_fields(image):
            network.module(image)
    finally:
        for handle in handles:
            handle.remove()
    return passed
