"""The page of a comparison: the advice, the table, the curves."""

from collections.abc import Callable, Sequence

from transferkit.intervals import METHOD
from transferkit.recipes.comparing.comparison_folder import PAGE
from transferkit.recipes.comparing.rows import Comparison, ComparisonRow
from transferkit.report.charts import COLOURS, Chart, Series, line_chart
from transferkit.report.page import render, write_page

_WIDTH, _MARGIN = 120.0, 4.0
"""Of the drawn intervals, in the units of the template."""


def write_comparison_page(found: Comparison, data: str, seeds: int) -> None:
    """Write compare.html.

    Args:
        found: What it shows.
        data: What the dataset is called.
        seeds: How often each candidate was to be repeated.

    Raises:
        OutputError: When it cannot be written.
    """
    html = render(
        "compare.html",
        data=data,
        seeds=seeds,
        rows=found.rows,
        images=found.images,
        baseline=found.baseline,
        advice=found.advice,
        go_on=found.go_on,
        method=METHOD,
        scale=_scale(found.rows),
        charts=_charts(found.rows),
    )
    write_page(found.folder / PAGE, html)


def _scale(rows: Sequence[ComparisonRow]) -> Callable[[float], float]:
    """From an accuracy to a place, such that all intervals fit."""
    known = [row.accuracy for row in rows if row.accuracy]
    low = min((one.low for one in known), default=0.0)
    high = max((one.high for one in known), default=1.0)
    room = (_WIDTH - 2 * _MARGIN) / max(high - low, 1e-9)
    return lambda value: _MARGIN + (value - low) * room


def _charts(rows: Sequence[ComparisonRow]) -> list[tuple[Chart, str, str]]:
    """(chart, title, caption) of the curves that there are points for."""
    drawn = [row for row in rows if row.curve]
    by_epoch = [_series(i, row, by_epoch=True) for i, row in enumerate(drawn)
                if row.candidate.is_trained]  # fmt: skip
    by_seconds = [_series(i, row, by_epoch=False) for i, row in enumerate(drawn)]
    charts = []
    if by_epoch:
        chart = line_chart(
            by_epoch,
            x_label="epoch",
            y_label="validation accuracy",
            alt="Validation accuracy by epoch of each candidate that is trained",
            share=True,
            whole_x=True,
        )
        charts.append((chart, "By epoch", "Mean over seeds."))
    if by_seconds:
        chart = line_chart(
            by_seconds,
            x_label="seconds of a run",
            y_label="validation accuracy",
            alt="Validation accuracy by seconds of each candidate",
            share=True,
        )
        charts.append((chart, "By time", "Mean over seeds; a classifier is one point, its end."))
    return charts


def _series(number: int, row: ComparisonRow, *, by_epoch: bool) -> Series:
    # As many as there are colours are solid, those after them dashed.
    style = "solid" if number < len(COLOURS) else "dashed"
    return Series(
        name=row.candidate.name,
        x=[point.epoch if by_epoch else point.seconds for point in row.curve],
        y=[point.accuracy for point in row.curve],
        colour=COLOURS[number % len(COLOURS)],
        style=style if row.candidate.is_trained else "dots",
    )
