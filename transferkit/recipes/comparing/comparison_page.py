"""The page of a comparison: the advice, the table, the curves."""

from collections.abc import Callable, Sequence

from transferkit.intervals import METHOD
from transferkit.recipes.comparing.comparison_folder import PAGE
from transferkit.recipes.comparing.rows import Comparison, ComparisonRow
from transferkit.report.charts import COLOURS, Axis, Chart, Scale, Series, line_chart
from transferkit.report.page import render, write_page

_WIDTH, _MARGIN = 120.0, 4.0
"""Width and margin of the drawn intervals, in the units of the template."""


def write_comparison_page(comparison: Comparison, data: str, seeds: int) -> None:
    """Write compare.html.

    Args:
        comparison: The comparison to show.
        data: Name of the dataset.
        seeds: Number of seeds that each candidate was to have.

    Raises:
        OutputError: When the page cannot be written.
    """
    html = render(
        "compare.html",
        data=data,
        seeds=seeds,
        rows=comparison.rows,
        images=comparison.images,
        baseline=comparison.baseline,
        advice=comparison.advice,
        resume_hint=comparison.resume_hint,
        method=METHOD,
        scale=_scale(comparison.rows),
        charts=_charts(comparison.rows),
    )
    write_page(comparison.folder / PAGE, html)


def _scale(rows: Sequence[ComparisonRow]) -> Callable[[float], float]:
    """Return a function from an accuracy to a horizontal position, such that all intervals fit."""
    known = [row.accuracy for row in rows if row.accuracy]
    low = min((one.low for one in known), default=0.0)
    high = max((one.high for one in known), default=1.0)
    room = (_WIDTH - 2 * _MARGIN) / max(high - low, 1e-9)
    return lambda value: _MARGIN + (value - low) * room


def _charts(rows: Sequence[ComparisonRow]) -> list[tuple[Chart, str, str]]:
    """Return (chart, title, caption) for each kind of curve that has points."""
    drawn = [row for row in rows if row.curve]
    by_epoch = [_series(i, row, by_epoch=True) for i, row in enumerate(drawn)
                if row.candidate.is_trained]  # fmt: skip
    by_seconds = [_series(i, row, by_epoch=False) for i, row in enumerate(drawn)]
    charts, accuracy = [], Axis("validation accuracy", Scale.PERCENT)
    if by_epoch:
        chart = line_chart(
            by_epoch,
            x=Axis("epoch", Scale.INTEGER),
            y=accuracy,
            alt="Validation accuracy by epoch of each candidate that is trained",
        )
        charts.append((chart, "By epoch", "Mean over seeds."))
    if by_seconds:
        chart = line_chart(
            by_seconds,
            x=Axis("seconds of a run"),
            y=accuracy,
            alt="Validation accuracy by seconds of each candidate",
        )
        charts.append((chart, "By time", "Mean over seeds. A classifier is a single point."))
    return charts


def _series(number: int, row: ComparisonRow, *, by_epoch: bool) -> Series:
    # The first series are solid, one per colour; later ones are dashed.
    style = "solid" if number < len(COLOURS) else "dashed"
    return Series(
        name=row.candidate.name,
        x=[point.epoch if by_epoch else point.seconds for point in row.curve],
        y=[point.accuracy for point in row.curve],
        colour=COLOURS[number % len(COLOURS)],
        style=style if row.candidate.is_trained else "dots",
    )
