"""`transferkit inspect`."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from transferkit.cli.console import escape, inert, standard_output
from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.errors import name_some
from transferkit.options.inspect import InspectOptions
from transferkit.tables import csv_writer

if TYPE_CHECKING:
    from transferkit.models.anatomy.layer_table import LayerRow
    from transferkit.recipes.inspect import Inspection

_WINDOW = ("kernel", "stride", "padding")
_MEASURES = ("output", "effective stride", "receptive field", "weights", "biases")
_HEADERS = {c: c.replace(" ", "\n") for c in (*_WINDOW, *_MEASURES)}
_WIDE = 110
"""The terminal width, in characters, from which every column has room."""

_NARROW_HEADERS = {
    column: {"padding": "pad", "receptive field": "field"}.get(column, column)
    for column in _HEADERS
    if column != "effective stride"
}
_NARROW_KIND = len("BatchNorm2d")


@takes(InspectOptions)
def inspect(options: InspectOptions, invocation: Invocation) -> None:
    """List the layers of a backbone, or draw its kernels or its feature maps of an image.

    Examples:
        transferkit inspect resnet18
        transferkit inspect resnet18 --activations photo.jpg

    Prints a table in a terminal, and CSV in a pipe: first what --layer takes, then every layer in
    order of execution. Output sizes and parameter counts are also computed by formula and compared
    with a real forward pass.
    """
    from transferkit.recipes.inspect import inspect as recipe

    found = recipe(options, invocation.reporter)
    rows = [row for row in found.layers if options.all_modules or row.role != "module"]
    console = standard_output()
    if options.draws:
        for drawing in found.drawings:
            print(inert(f"{drawing.path}: {drawing.shows}"))
    elif console.is_terminal:
        _print_tables(rows, console)
        for line in (*_summary_lines(found, rows), *_legend(console)):
            console.print(escape(line), soft_wrap=True)
    else:
        _write_csv(rows)
        for line in _summary_lines(found, rows):
            invocation.reporter.notice(line)


def _write_csv(rows: list["LayerRow"]) -> None:
    writer = csv_writer(sys.stdout)
    writer.writerow(("layer", "kind", "role", *_WINDOW, *_MEASURES, "formula", "features"))
    verdicts = {True: "agrees", False: "differs", None: ""}
    for row in rows:
        values = _cells(row, _WINDOW + _MEASURES)
        extractable = "yes" if row.extractable else "no"
        writer.writerow((row.name, row.kind, row.role, *values, verdicts[row.agrees], extractable))


def _cells(row: "LayerRow", columns: Iterable[str]) -> list[str]:
    """Return the row's values as CSV holds them."""
    return [_text(getattr(row, column.replace(" ", "_"))) for column in columns]


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return "" if value is None else str(value)


def _print_tables(rows: list["LayerRow"], console: Console) -> None:
    """Print the stages and pooled outputs that `--layer` takes, then every layer."""
    headers = _HEADERS if console.width >= _WIDE else _NARROW_HEADERS
    stages = [row for row in rows if row.role == "stage"]
    modules = [row for row in rows if row.role != "stage"]
    table = _table(("what --layer takes", "modules"), stages, {c: _HEADERS[c] for c in _MEASURES})
    console.print(table, "")
    layers = _table(("and every layer", "kind"), modules, headers)
    if headers is _NARROW_HEADERS:
        layers.columns[1].max_width = _NARROW_KIND
    console.print(layers, "")


def _table(words: tuple[str, str], rows: list["LayerRow"], headers: Mapping[str, str]) -> Table:
    # No lines between the columns: many have to fit.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for header in words:
        table.add_column(header, overflow="fold")
    for header in headers.values():
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        label = row.name if row.extractable else f"({row.name})"
        values = (
            _short(column, text) for column, text in zip(headers, _cells(row, headers), strict=True)
        )
        table.add_row(escape(label), escape(row.kind), *values)
    return table


def _short(column: str, text: str) -> str:
    """Shorten a value for a terminal: a stride or padding of equal sides is one number."""
    sides = text.split(" x ")
    if column in ("stride", "padding") and len(set(sides)) == 1:
        return sides[0]
    return f"{int(text):,}" if text.isdecimal() else "x".join(sides)


def _summary_lines(found: "Inspection", rows: list["LayerRow"]) -> Iterator[str]:
    """Totals, how the formulas compare with the pass, and which rows are missing or special."""
    total = found.weights + found.biases
    yield f"{total:,} parameters: {found.weights:,} weights and {found.biases:,} biases"
    yield from _check_lines(found)
    if len(rows) < len(found.layers):
        yield "--all lists the modules that hold these layers too"
    if any(not row.extractable for row in rows):
        yield "--layer does not take the names in parentheses"


def _check_lines(found: "Inspection") -> Iterator[str]:
    """Which layers' formulas agree with the pass, and which layers have none."""
    layers = [row for row in found.layers if row.role == "layer"]
    checked = [row for row in layers if row.agrees is not None]
    differing = [row.name for row in checked if not row.agrees]
    without = Counter(row.kind for row in layers if row.agrees is None)
    _, height, width = found.input_size
    compared = f"at {height} x {width} px, output sizes and parameters by formula"
    if differing:
        count = f"{len(differing)} of {len(checked)} layers"
        yield f"{compared} differ from a real pass in {count}: {name_some(differing)}"
    else:
        scope = " that have a formula" if without else ""
        yield f"{compared} agree with a real pass in all {len(checked)} layers{scope}"
    if without:
        kinds = [f"{count} {kind}" for kind, count in without.most_common()]
        yield f"measured only, without a formula: {name_some(kinds)}"


def _legend(console: Console) -> Iterator[str]:
    yield (
        "effective stride and receptive field are in pixels; they are empty where a layer has no "
        "map or sees the whole image"
    )
    if console.width < _WIDE:
        yield f"{_WIDE} columns or a pipe also show the effective stride of every layer"
