"""`transferkit compare`."""

from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from transferkit.cli.console import escape, print_rows, standard_output
from transferkit.cli.exits import SOME_LEFT_OUT, exit_for_unreadable
from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.options.compare import CompareOptions

if TYPE_CHECKING:
    from transferkit.intervals import Estimate
    from transferkit.recipes.comparing.rows import Comparison, ComparisonRow

_WIDE = 110
"""The terminal width, in characters, from which each row of the table fits on one line."""


@takes(CompareOptions)
def compare(options: CompareOptions, invocation: Invocation) -> None:
    """Compare strategies, backbones and classifiers on one split of a folder of images.

    Examples:
        transferkit compare photos -s partial -s full -s svm

    Trains every candidate as finetune does, with several seeds. Writes a table with intervals as
    CSV and JSON, a page with curves, and the runs, and ends with a sentence of advice. In a pipe,
    the printed table is CSV.
    """
    from transferkit.recipes.compare import compare as recipe
    from transferkit.recipes.comparing.comparison_files import COLUMNS, table_row

    found = recipe(options, invocation.reporter)
    console = standard_output()
    if console.is_terminal:
        print_comparison(found, console)
    else:
        print_rows(COLUMNS, map(table_row, found.rows), console)
        for line in _summary_lines(found):
            invocation.reporter.notice(line)
    if found.failed:
        raise typer.Exit(SOME_LEFT_OUT)
    exit_for_unreadable(found.left_out)


def print_comparison(found: "Comparison", console: Console) -> None:
    """Print the table, the advice, and where the page is."""
    _print_table(found, console)
    for line in _summary_lines(found):
        console.print(escape(line), soft_wrap=True)


def _print_table(found: "Comparison", console: Console) -> None:
    several = len({row.candidate.network for row in found.rows}) > 1
    # In a narrow terminal, an interval goes below its value.
    separator = " " if console.width >= _WIDE else "\n"
    table = Table("strategy", *(["backbone"] if several else []))
    for column in ("accuracy", "difference", "time", "trained", "MB"):
        table.add_column(column, justify="right")
    for row in found.rows:
        network = [escape(row.candidate.network)] if several else []
        table.add_row(escape(row.candidate.strategy), *network, *_cells(row, separator))
    console.print(table)
    for row in found.rows:
        if row.note:
            console.print(f"{escape(row.candidate.name)}: {escape(row.note)}", soft_wrap=True)


def _cells(row: "ComparisonRow", separator: str) -> tuple[str, ...]:
    if row.accuracy is None:
        so_far = "" if row.so_far is None else f"{row.so_far:.3f} so far"
        return so_far, "did not finish", "", "", ""
    assert row.seconds is not None
    assert row.size is not None
    difference = "the best"
    if row.difference is not None:
        difference = _estimate(row.difference, separator, "+") + " =" * row.equals_best
    return (
        _estimate(row.accuracy, separator),
        difference,
        f"{row.seconds:.1f} s",
        f"{row.trainable_parameters:,}",
        f"{row.size / 1e6:.1f}",
    )


def _estimate(estimate: "Estimate", separator: str, sign: str = "") -> str:
    value, low, high = (
        f"{number:{sign}z.3f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value}{separator}({low} to {high})"


def _summary_lines(found: "Comparison") -> list[str]:
    from transferkit.recipes.comparing.comparison_folder import PAGE

    _, val = found.images
    legend = (
        f"{val} validation images, 95 % intervals; = cannot be told apart from the best; "
        f"majority-class baseline: {found.baseline:.3f}"
    )
    lines = (legend, found.advice, f"page: {found.folder / PAGE}", found.resume_hint)
    return [line for line in lines if line]
