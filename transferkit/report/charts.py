"""Charts as SVG for a page, in the page's colours.

matplotlib draws them in stand-in colours that are replaced by the page's CSS variables, so that a
chart follows the light, dark and print styles. The legend is part of the page, not of the drawing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as DrawnAxis
    from matplotlib.figure import Figure

COLOURS = tuple(f"--s{i}" for i in range(1, 9))
"""The page's colours for series, as CSS variables."""

_INK, _SOFT, _LINE, _PANEL = "#010101", "#010102", "#010103", "#010104"
_STAND_INS = {_INK: "currentColor", _SOFT: "var(--soft)", _LINE: "var(--line)",
              _PANEL: "var(--panel)"}  # fmt: skip
_SIZE = (4.75, 3.0)
"""Inches; at 72 points per inch about as many points as the page has pixels for a chart."""

_MARGINS = {"left": 0.165, "right": 0.96, "bottom": 0.155, "top": 0.98}
"""Position of the axes in the drawing. It is fixed because measuring the text takes as long as
drawing the chart."""

_TOP_BELOW_SPAN_NAMES = 0.93

_STYLE: Any = {  # Any: matplotlib types each of its hundreds of settings by name
    "svg.fonttype": "none",  # keep text as text
    "svg.hashsalt": "transferkit",  # reproducible ids
    "path.simplify_threshold": 0.2,
    "font.size": 10,
    "axes.labelsize": 10,
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "axes.edgecolor": _LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _SOFT,
    "axes.formatter.useoffset": False,
}


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: Name in the legend; any text.
        x: N numbers.
        y: N numbers; NaN leaves a gap.
        colour: A CSS variable of the page, one of `COLOURS`.
        style: solid, dashed, dots or bars.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = COLOURS[0]
    style: str = "solid"


class Scale(Enum):
    """Scale of an axis.

    `LOG` is logarithmic only where the values spread over a factor of ten or more; it leaves out
    values of 0. `PERCENT` shows fractions from 0 to 1 as per cent. `INTEGER` has ticks at whole
    numbers only.
    """

    LINEAR = "linear"
    LOG = "log"
    PERCENT = "percent"
    INTEGER = "integer"


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        label: What it shows, with its unit.
        scale: Scale of its values.
    """

    label: str
    scale: Scale = Scale.LINEAR


@dataclass(frozen=True)
class Chart:
    """A drawing and its legend.

    Attributes:
        svg: The drawing.
        series: The lines that the legend names.
    """

    svg: "Markup"
    series: tuple[Series, ...]


def line_chart(
    series: Sequence[Series],
    *,
    x: Axis,
    y: Axis,
    alt: str,
    spans: Sequence[tuple[float, float, str]] = (),
) -> Chart:
    """Draw lines over a common x axis.

    Args:
        series: The lines, drawn in this order, later ones on top.
        x: The horizontal axis; its scale must not be LOG.
        y: The vertical axis.
        alt: Text alternative for readers who cannot see the chart.
        spans: (start, end, name) of consecutive parts of the x axis; every other one is shaded.
    """
    import matplotlib  # takes half a second to import, and many commands draw nothing
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE)
        named = {"top": _TOP_BELOW_SPAN_NAMES} if len(spans) > 1 else {}
        axes = figure.subplots(gridspec_kw={**_MARGINS, **named})
        for one in series:
            _draw(axes, one)
        axes.set_xlabel(x.label)
        axes.set_ylabel(y.label)
        if y.scale is Scale.LOG:
            _use_log_scale(axes, [value for one in series for value in one.y if value > 0])
        _format_ticks(axes.xaxis, x.scale)
        _format_ticks(axes.yaxis, y.scale)
        _mark_spans(axes, spans)
        axes.tick_params(length=0, which="both")
        return Chart(to_svg(figure, alt), tuple(series))


def reliability_chart(bins: Sequence[tuple[float, float, int]], *, alt: str) -> Chart:
    """Draw accuracy against confidence: bars reach the diagonal where the model is calibrated.

    Args:
        bins: (mean confidence, accuracy, images) of each bin, for bins of equal width from 0 to 1.
            The first two are NaN for an empty bin.
        alt: Text alternative for readers who cannot see the chart.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    width = 1 / len(bins)
    centres = (np.arange(len(bins)) + 0.5) * width
    confidence, accuracy, counts = np.array(bins, dtype=float).T
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.75, 3.9))
        layout = {**_MARGINS, "bottom": 0.12, "height_ratios": (4, 1), "hspace": 0.1}
        axes, below = figure.subplots(2, sharex=True, gridspec_kw=layout)
        axes.bar(centres, accuracy, 0.9 * width, color=_stand_in(COLOURS[0]), alpha=0.55)
        axes.plot((0, 1), (0, 1), color=_SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(confidence, accuracy, "o", color=_stand_in(COLOURS[1]), markersize=4.5)
        axes.set(xlim=(0, 1), ylim=(0, 1.03), ylabel="accuracy")
        below.bar(centres, counts, 0.9 * width, color=_SOFT, alpha=0.6)
        below.set(xlabel="confidence", ylabel="images")
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True, prune="lower"))
        for axis in (axes.yaxis, below.xaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        for part in (axes, below):
            part.tick_params(length=0)
        series = (
            Series("accuracy by confidence", (), (), COLOURS[0], "bars"),
            Series("mean confidence of the bin", (), (), COLOURS[1], "dots"),
        )
        return Chart(to_svg(figure, alt), series)


def to_svg(figure: "Figure", alt: str) -> "Markup":
    """Return a figure as SVG in the page's colours, without ids that could clash.

    Args:
        figure: A matplotlib figure in stand-in colours. Its text must not come from a user.
        alt: Text alternative for readers who cannot see it.
    """
    from markupsafe import Markup, escape

    file = StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg ") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'(<g) id="[^"]*"', r"\1", text)
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    text = re.sub(r"\s*\n\s*", " ", text)
    for stand_in, colour in _STAND_INS.items() | {(_stand_in(c), f"var({c})") for c in COLOURS}:
        text = text.replace(stand_in, colour)
    opening = re.search(r'viewBox="([^"]*)"', text)
    assert opening
    body = text[text.index(">") + 1 :]
    label = escape(alt)
    return Markup(f'<svg role="img" aria-label="{label}" viewBox="{opening[1]}">{body}')


def _draw(axes: "Axes", one: Series) -> None:
    colour = _stand_in(one.colour)
    if one.style == "dots":
        axes.plot(one.x, one.y, "o", color=colour, markersize=5)
        return
    dashes = (0, (4, 2.5)) if one.style == "dashed" else "solid"
    # Short lines have markers: a line of one epoch would be invisible without.
    marker = "o" if len(one.x) <= 15 and one.style == "solid" else ""
    axes.plot(
        one.x, one.y, color=colour, linestyle=dashes, linewidth=1.8, marker=marker, markersize=3.5
    )


def _format_ticks(axis: "DrawnAxis", scale: Scale) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    match scale:
        case Scale.LINEAR | Scale.LOG:
            pass
        case Scale.PERCENT:
            axis.set_major_formatter(PercentFormatter(1.0))
        case Scale.INTEGER:
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        case _:
            assert_never(scale)


def _use_log_scale(axes: "Axes", values: Sequence[float]) -> None:
    """Make the y axis logarithmic if the values spread over a factor of ten or more."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    if values and max(values) >= 10 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(_in_scientific_notation))


def _mark_spans(axes: "Axes", spans: Sequence[tuple[float, float, str]]) -> None:
    """Shade every other span, and write its name above the axes where there is room."""
    if len(spans) < 2:
        return
    first, last = spans[0][0], spans[-1][1]
    for number, (low, high, name) in enumerate(spans):
        if number % 2:
            axes.axvspan(low, high, color=_PANEL, linewidth=0, zorder=0)
        if len(name) / 56 < (high - low) / (last - first):
            axes.text(
                (low + high) / 2, 1.01, name, ha="center", va="bottom", fontsize=9, color=_SOFT,
                transform=axes.get_xaxis_transform(), parse_math=False,
            )  # fmt: skip
    for (_, edge, _), _ in pairwise(spans):
        axes.axvline(edge, color=_LINE, linewidth=0.8)
    axes.set_xlim(first, last)


def _in_scientific_notation(value: float, _: object) -> str:
    """Return a number like 1e-3; typeset powers would need matplotlib's slow formula parser."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if value else "0"


def _stand_in(colour: str) -> str:
    return f"#0102{COLOURS.index(colour) + 1:02d}"
