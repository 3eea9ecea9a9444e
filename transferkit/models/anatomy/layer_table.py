"""The layers of a network in order of execution: settings, outputs, receptive fields, parameters.

All of it is measured on a pass of a blank image, and what the formulas of `arithmetic.py` say is
compared with it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from typing import Literal

from torch import nn

from transferkit.errors import OptionError
from transferkit.models.anatomy.arithmetic import Sides
from transferkit.models.anatomy.blank_pass import BlankPass, Done, trace_modules
from transferkit.models.feature_extractor import (
    POOLED,
    PRELOGITS,
    FeatureExtractor,
    Point,
    Pool,
    stage_points,
)
from transferkit.models.network import Network


class Role(StrEnum):
    """What a row of the table stands for.

    `stage`: `pooled`, `prelogits`, a stage or the head. `layer`: a module that computes something
    itself. `module`: one whose work is that of the layers inside it, or of the one around it.
    `parameter`: one that no layer holds, such as a class token.
    """

    STAGE = "stage"
    LAYER = "layer"
    MODULE = "module"
    PARAMETER = "parameter"


@dataclass(frozen=True)
class LayerRow:
    """A layer of a network.

    Attributes:
        name: What `--layer` takes, where it is `takable`.
        kind: The module's class; for a stage its modules.
        role: What it stands for.
        output: Shape for one picture, without the batch; of a parameter its own.
        weights: How many numbers its parameters hold, its parts' included, without the biases.
        biases: How many its biases hold: the parameters that are called so.
        effective_stride: Pixels between neighbours of its map; None where it has no regular map.
        receptive_field: Side in pixels of what one number of it sees; None where that is the whole
            picture, or no square.
        kernel: Sides of its window; None where it has none.
        stride: From one position of the window to the next, in positions of its input.
        padding: Rows and columns added at each end, or `same`.
        agrees: Whether the formulas give the same output and parameters; None where there are none.
        takable: Whether features can be taken from it.
    """

    name: str
    kind: str
    role: Role
    output: Sides
    weights: int
    biases: int
    effective_stride: int | None = None
    receptive_field: int | None = None
    kernel: Sides | None = None
    stride: Sides | None = None
    padding: Sides | Literal["same"] | None = None
    agrees: bool | None = None
    takable: bool = True

    @property
    def parameters(self) -> int:
        """Weights and biases together."""
        return self.weights + self.biases


def list_layers(network: Network) -> list[LayerRow]:
    """Every layer that a picture goes through, and every parameter outside of them.

    First `pooled`, `prelogits` and the stages, then the modules in order of execution, without
    those that leave their input as it is, and without containers that have the name of a stage. Of
    a module that runs twice the last time is listed. Together the rows `layer` and `parameter` hold
    each of the network's parameters once.
    """
    points = stage_points(network)
    passed = trace_modules(network)
    stages = {stage.name: stage for stage in network.stages if stage.name in points}
    rows = []
    for name, did in passed.modules.items():
        row = _module_row(name, network.module.get_submodule(name), did)
        if name not in stages:
            rows.append(row)
        elif row.role is Role.LAYER:
            # By its name the stage is taken, which may be the same.
            rows.append(replace(row, takable=stages[name].modules == (name,)))
    rows = _without_inner_layers(rows)
    return [*_stage_rows(network, points, passed), *_with_loose_parameters(network.module, rows)]


def _stage_rows(
    network: Network, points: Mapping[str, Point], passed: BlankPass
) -> Iterator[LayerRow]:
    backbone = [name for stage in network.stages[:-1] for name in stage.parameters]
    for name, kind in (
        (POOLED, "the last map or tokens, pooled"),
        (PRELOGITS, "what enters the head"),
    ):
        # Networks of two branches have neither.
        with suppress(OptionError):
            shape = FeatureExtractor(network, (name,), Pool.AUTO).shape
            yield LayerRow(name, kind, Role.STAGE, shape, *_counts(network.module, backbone))
    for stage in network.stages:
        measured = passed.at(points.get(stage.name))
        if measured and measured.takable:
            kind = ", ".join(stage.modules[:3]) + (" ..." if stage.modules[3:] else "")
            counts = _counts(network.module, stage.parameters)
            yield LayerRow(stage.name, kind, Role.STAGE, measured.shape, *counts, *measured.seen)


def _module_row(name: str, module: nn.Module, did: Done) -> LayerRow:
    counts = _counts(module, [parameter for parameter, _ in module.named_parameters()])
    measured, formula = did.output, did.formula
    row = LayerRow(
        name,
        type(module).__name__,
        Role.LAYER if did.computes else Role.MODULE,
        measured.shape,
        *counts,
        *measured.seen,
        takable=measured.takable,
    )
    if formula is None:
        return row
    return replace(
        row,
        kernel=formula.kernel,
        stride=formula.stride,
        padding=formula.padding,
        agrees=did.agrees and counts == (formula.weights, formula.biases),
    )


def _without_inner_layers(rows: Sequence[LayerRow]) -> list[LayerRow]:
    """Layers inside of another become modules: timm's norms hold the activation behind them."""
    layers = {row.name for row in rows if row.role is Role.LAYER}
    return [
        replace(row, role=Role.MODULE) if layers & set(_around(row.name)) else row for row in rows
    ]


def _with_loose_parameters(module: nn.Module, rows: Sequence[LayerRow]) -> list[LayerRow]:
    """A row for each parameter that no layer holds, behind the module that does, or at the end."""
    layers = {row.name for row in rows if row.role is Role.LAYER}
    names = {row.name for row in rows}
    loose: dict[str, list[LayerRow]] = {}
    for name, tensor in module.named_parameters():
        around = _around(name)
        if not layers & set(around):
            counts = _counts(module, [name])
            row = LayerRow(
                name, "parameter", Role.PARAMETER, tuple(tensor.shape), *counts, takable=False
            )
            holder = next((outer for outer in around if outer in names), "")
            loose.setdefault(holder, []).append(row)
    behind = [[row, *loose.get(row.name, ())] for row in rows]
    return [*chain.from_iterable(behind), *loose.get("", ())]


def _around(name: str) -> list[str]:
    """The names of the modules around one, the innermost first."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]


def _counts(module: nn.Module, names: Iterable[str]) -> tuple[int, int]:
    """Numbers in the weights and in the biases among the parameters so named."""
    sizes = [(name.endswith("bias"), module.get_parameter(name).numel()) for name in names]
    biases = sum(size for is_bias, size in sizes if is_bias)
    return sum(size for _, size in sizes) - biases, biases
