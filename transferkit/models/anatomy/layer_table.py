"""The layers of a network in order of execution: settings, outputs, receptive fields, parameters.

Everything is measured while a blank image passes through, and compared with the formulas of
`arithmetic.py`.
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
from transferkit.models.anatomy.blank_pass import BlankPass, ModuleRecord, trace_modules
from transferkit.models.feature_extractor import (
    POOLED,
    PRELOGITS,
    FeatureExtractor,
    HookPoint,
    Pool,
    stage_hook_points,
)
from transferkit.models.network import Network


class Role(StrEnum):
    """What a row of the table describes.

    `stage`: `pooled`, `prelogits`, a stage or the head. `layer`: a module that computes something
    itself. `module`: a module that contains layers, or is part of one. `parameter`: a parameter
    outside all layers, such as a class token.
    """

    STAGE = "stage"
    LAYER = "layer"
    MODULE = "module"
    PARAMETER = "parameter"


@dataclass(frozen=True)
class LayerRow:
    """One row of the layer table.

    Attributes:
        name: The name that `--layer` takes, if the layer is `extractable`.
        kind: The module's class; for a stage, the names of its modules.
        role: What the row describes.
        output: Shape of the output for one image; of a parameter, its own shape.
        weights: Number of elements of its parameters, inner modules included, without the biases.
        biases: Number of elements of its biases: the parameters whose names end so.
        effective_stride: Pixels between neighbours of its map; None where it has no regular map.
        receptive_field: Side in pixels of what one element sees; None where that is the whole
            image, or not a square.
        kernel: Sides of its window; None for a layer without a window.
        stride: Distance between neighbouring windows, in positions of the input.
        padding: Rows and columns added at each end, or `same`.
        agrees: Whether the formulas give the same output and parameters; None without formulas.
        extractable: Whether features can be extracted from it.
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
    extractable: bool = True

    @property
    def parameters(self) -> int:
        """Number of elements of weights and biases together."""
        return self.weights + self.biases


def list_layers(network: Network) -> list[LayerRow]:
    """Return every layer that an image passes through, and every parameter outside of them.

    `pooled`, `prelogits` and the stages come first, then the modules in order of execution. Modules
    that do not change their input and containers named like a stage are left out. A module that
    runs twice is listed where it runs last. Together, the `layer` and `parameter` rows contain each
    of the network's parameters once.
    """
    points = stage_hook_points(network)
    blank_pass = trace_modules(network)
    stages = {stage.name: stage for stage in network.stages if stage.name in points}
    rows = []
    for name, record in blank_pass.modules.items():
        row = _module_row(name, network.module.get_submodule(name), record)
        if name not in stages:
            rows.append(row)
        elif row.role is Role.LAYER:
            # `--layer` takes the stage of this name, which may be this very module.
            rows.append(replace(row, extractable=stages[name].modules == (name,)))
    rows = _without_inner_layers(rows)
    return [
        *_stage_rows(network, points, blank_pass),
        *_with_loose_parameters(network.module, rows),
    ]


def _stage_rows(
    network: Network, points: Mapping[str, HookPoint], blank_pass: BlankPass
) -> Iterator[LayerRow]:
    backbone = [name for stage in network.stages[:-1] for name in stage.parameters]
    for name, kind in (
        (POOLED, "the last map or tokens, pooled"),
        (PRELOGITS, "what enters the head"),
    ):
        # Networks with two branches have neither.
        with suppress(OptionError):
            shape = FeatureExtractor(network, (name,), Pool.AUTO).shape
            yield LayerRow(name, kind, Role.STAGE, shape, *_counts(network.module, backbone))
    for stage in network.stages:
        measured = blank_pass.at(points.get(stage.name))
        if measured and measured.extractable:
            kind = ", ".join(stage.modules[:3]) + (" ..." if stage.modules[3:] else "")
            counts = _counts(network.module, stage.parameters)
            yield LayerRow(stage.name, kind, Role.STAGE, measured.shape, *counts,
                           measured.effective_stride, measured.receptive_field)  # fmt: skip


def _module_row(name: str, module: nn.Module, record: ModuleRecord) -> LayerRow:
    counts = _counts(module, [parameter for parameter, _ in module.named_parameters()])
    measured, formula = record.output, record.formula
    row = LayerRow(
        name,
        type(module).__name__,
        Role.LAYER if record.computes else Role.MODULE,
        measured.shape,
        *counts,
        measured.effective_stride,
        measured.receptive_field,
        extractable=measured.extractable,
    )
    if formula is None:
        return row
    return replace(
        row,
        kernel=formula.kernel,
        stride=formula.stride,
        padding=formula.padding,
        agrees=record.agrees and counts == (formula.weights, formula.biases),
    )


def _without_inner_layers(rows: Sequence[LayerRow]) -> list[LayerRow]:
    """Give layers inside other layers the role `module`: timm's norms contain an activation."""
    layers = {row.name for row in rows if row.role is Role.LAYER}
    return [
        replace(row, role=Role.MODULE) if layers & set(_ancestors(row.name)) else row
        for row in rows
    ]


def _with_loose_parameters(module: nn.Module, rows: Sequence[LayerRow]) -> list[LayerRow]:
    """Add a row for each parameter outside all layers, after its module or at the end."""
    layers = {row.name for row in rows if row.role is Role.LAYER}
    names = {row.name for row in rows}
    loose: dict[str, list[LayerRow]] = {}
    for name, tensor in module.named_parameters():
        ancestors = _ancestors(name)
        if not layers & set(ancestors):
            counts = _counts(module, [name])
            row = LayerRow(
                name, "parameter", Role.PARAMETER, tuple(tensor.shape), *counts, extractable=False
            )
            holder = next((outer for outer in ancestors if outer in names), "")
            loose.setdefault(holder, []).append(row)
    followed = [[row, *loose.get(row.name, ())] for row in rows]
    return [*chain.from_iterable(followed), *loose.get("", ())]


def _ancestors(name: str) -> list[str]:
    """Return the names of the modules that contain a module, the innermost first."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]


def _counts(module: nn.Module, names: Iterable[str]) -> tuple[int, int]:
    """Return the numbers of elements in the weights and in the biases among these parameters."""
    sizes = [(name.endswith("bias"), module.get_parameter(name).numel()) for name in names]
    biases = sum(size for is_bias, size in sizes if is_bias)
    return sum(size for _, size in sizes) - biases, biases
