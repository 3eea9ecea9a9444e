"""`transferkit inspect`."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from transferkit.cli.console import escape, inert, standard_output
from transferkit.cli.parameters import takes
from transferkit.cli.state import settings
from transferkit.errors import name_some
from transferkit.options.commands import InspectOptions
from transferkit.tables import csv_writer

if TYPE_CHECKING:
    from transferkit.models.anatomy.layer_table import LayerRow
    from transferkit.recipes.inspect import Inspection

_WINDOW = ("kernel", "stride", "padding")
_MEASURES = ("output", "effective stride", "receptive field", "weights", "biases")
_HEADERS = {c: c.replace(" ", "\n") for c in (*_WINDOW, *_MEASURES)}
_WIDE = 110
"""Characters in a line from which on every column has room."""

_NARROW_HEADERS = {
    column: {"padding": "pad", "receptive field": "field"}.get(column, column)
    for column in _HEADERS
    if column != "effective stride"
}
_NARROW_KIND = len("BatchNorm2d")


@takes(InspectOptions)
def inspect(options: InspectOptions) -> None:
    """List the layers of a backbone, or draw its kernels and what it makes of a picture.

    A table in a terminal, CSV in a pipe: what --layer takes, then every layer in order of
    execution. Sizes and parameters are computed by formula too, and compared with a real pass.

    Example: transferkit inspect resnet18
    """
    from transferkit.recipes.inspect import inspect as recipe

    found = recipe(options)
    rows = [row for row in found.layers if options.all_modules or row.role != "module"]
    console = standard_output()
    if options.draws:
        for drawing in found.drawings:
            print(inert(f"{drawing.path}: {drawing.shows}"))
    elif console.is_terminal:
        _print_tables(rows, console)
        for line in (*_closing_lines(found, rows), *_legend(console)):
            console.print(escape(line), soft_wrap=True)
    else:
        _write_csv(rows)
        for line in _closing_lines(found, rows):
            settings.reporter().notice(line)


def _write_csv(rows: list["LayerRow"]) -> None:
    writer = csv_writer(sys.stdout)
    writer.writerow(("layer", "kind", "role", *_WINDOW, *_MEASURES, "formula", "features"))
    verdicts = {True: "agrees", False: "differs", None: ""}
    for row in rows:
        values = _told(row, _WINDOW + _MEASURES)
        taken = "yes" if row.takable else "no"
        writer.writerow((row.name, row.kind, row.role, *values, verdicts[row.agrees], taken))


def _told(row: "LayerRow", columns: Iterable[str]) -> list[str]:
    """The row's values, as CSV has them."""
    return [_text(getattr(row, column.replace(" ", "_"))) for column in columns]


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return "" if value is None else str(value)


def _print_tables(rows: list["LayerRow"], console: Console) -> None:
    """What `--layer` takes without a look inside, then the layers."""
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
    # Many columns have to fit, so without lines between them.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for header in words:
        table.add_column(header, overflow="fold")
    for header in headers.values():
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        label = row.name if row.takable else f"({row.name})"
        values = (
            _short(column, text) for column, text in zip(headers, _told(row, headers), strict=True)
        )
        table.add_row(escape(label), escape(row.kind), *values)
    return table


def _short(column: str, text: str) -> str:
    """A value as a terminal shows it: of a stride or padding that is the same everywhere once."""
    sides = text.split(" x ")
    if column in ("stride", "padding") and len(set(sides)) == 1:
        return sides[0]
    return f"{int(text):,}" if text.isdecimal() else "x".join(sides)


def _closing_lines(found: "Inspection", rows: list["LayerRow"]) -> Iterator[str]:
    """Totals, what was checked, and what is left to say of the columns."""
    total = found.weights + found.biases
    yield f"{total:,} parameters: {found.weights:,} weights and {found.biases:,} biases"
    layers = [row for row in found.layers if row.role == "layer"]
    checked = [row for row in layers if row.agrees is not None]
    differing = [row.name for row in checked if not row.agrees]
    without = Counter(row.kind for row in layers if row.agrees is None)
    _, height, width = found.input_size
    told = f"at {height} x {width} px output sizes and parameters by formula agree with a real pass"
    if differing:
        yield f"{told}, but not of {len(differing)} in {len(checked)} layers: " + name_some(
            differing, 20
        )
    else:
        yield f"{told}: all of {len(checked)} layers" + (" that have a formula" if without else "")
    if without:
        kinds = [f"{count} {kind}" for kind, count in without.most_common()]
        yield f"measured only, without a formula: {name_some(kinds)}"
    if len(rows) < len(found.layers):
        yield "--all lists the modules that hold these layers too"
    if any(not row.takable for row in rows):
        yield "--layer does not take the names in parentheses"


def _legend(console: Console) -> Iterator[str]:
    yield (
        "effective stride and receptive field are in pixels, and empty where there is no map or "
        "the whole picture is seen"
    )
    if console.width < _WIDE:
        yield f"{_WIDE} columns or a pipe show the effective stride of every layer too"
