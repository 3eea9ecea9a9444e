"""Charts as SVG for a page: lines over a number, in colours that the page decides.

matplotlib draws them. Its colours are stand-ins for the page's, so that a chart follows light, dark
and print; names of lines stand in the page's legend and not in the drawing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = tuple(f"--s{i}" for i in range(1, 9))
"""The page's colours for things side by side, as CSS variables."""

_INK, _SOFT, _LINE, _PANEL = "#010101", "#010102", "#010103", "#010104"
_STAND_INS = {_INK: "currentColor", _SOFT: "var(--soft)", _LINE: "var(--line)",
              _PANEL: "var(--panel)"}  # fmt: skip
_SIZE = (4.75, 3.0)
"""Inches; at 72 points an inch about as many points as the page has pixels for it."""

_ROOM = {"left": 0.165, "right": 0.96, "bottom": 0.155, "top": 0.98}
"""What the axes take of the drawing, which is the same for all: measuring text takes as long as
drawing does."""

_TOP_UNDER_NAMES = 0.93

_STYLE: Any = {  # matplotlib types its settings by name, hundreds of them
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "transferkit",  # the same chart, the same bytes
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
    """A line of a chart.

    Attributes:
        name: For the legend; any text.
        x: N numbers.
        y: N numbers; NaN leaves a gap.
        colour: A CSS variable of the page, one of `COLOURS`.
        style: solid, dashed, dots, or bars.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = COLOURS[0]
    style: str = "solid"


@dataclass(frozen=True)
class Chart:
    """A drawing and what its legend needs.

    Attributes:
        svg: The drawing.
        series: Its lines.
    """

    svg: "Markup"
    series: tuple[Series, ...]


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    alt: str,
    log_y: bool = False,
    share: bool = False,
    spans: Sequence[tuple[float, float, str]] = (),
    whole_x: bool = False,
) -> Chart:
    """Lines over a common axis.

    Args:
        series: The lines, first below.
        x_label: What is to the right, with its unit.
        y_label: What is upwards, with its unit.
        alt: What the chart shows, for those who cannot see it.
        log_y: Whether upwards is logarithmic, where the values spread over a factor of ten or
            more; 0 is then left out.
        share: Whether upwards are shares, shown as per cent.
        spans: (from, to, name) of parts of the x axis to tell apart, every other one shaded.
        whole_x: Whether to the right are whole numbers, such as epochs.
    """
    import matplotlib  # takes half a second, and many commands draw nothing
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE)
        named = {"top": _TOP_UNDER_NAMES} if len(spans) > 1 else {}
        axes = figure.subplots(gridspec_kw={**_ROOM, **named})
        for one in series:
            _draw(axes, one)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if log_y:
            _spread(axes, [value for one in series for value in one.y if value > 0])
        if share:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        if whole_x:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _mark(axes, spans)
        axes.tick_params(length=0, which="both")
        return Chart(to_svg(figure, alt), tuple(series))


def reliability_chart(bins: Sequence[tuple[float, float, int]], *, alt: str) -> Chart:
    """Accuracy against confidence: bars that reach the diagonal where the model is calibrated.

    Args:
        bins: (mean confidence, accuracy, rows) of each of equal bins from 0 to 1; of one with no
            rows the first two are NaN.
        alt: What the chart shows, for those who cannot see it.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    width = 1 / len(bins)
    centres = (np.arange(len(bins)) + 0.5) * width
    confidence, accuracy, counts = np.array(bins, dtype=float).T
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.75, 3.9))
        room = {**_ROOM, "bottom": 0.12, "height_ratios": (4, 1), "hspace": 0.1}
        axes, below = figure.subplots(2, sharex=True, gridspec_kw=room)
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
            Series("accuracy at a confidence", (), (), COLOURS[0], "bars"),
            Series("mean confidence there", (), (), COLOURS[1], "dots"),
        )
        return Chart(to_svg(figure, alt), series)


def to_svg(figure: "Figure", alt: str) -> "Markup":
    """A figure drawn in stand-ins as SVG in the page's colours, with no names to clash.

    Args:
        figure: matplotlib's. Text in it must be ours, not a user's.
        alt: What it shows, for those who cannot see it.
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
    # Few points are marked, so that one epoch is seen as well.
    marker = "o" if len(one.x) <= 15 and one.style == "solid" else ""
    axes.plot(
        one.x, one.y, color=colour, linestyle=dashes, linewidth=1.8, marker=marker, markersize=3.5
    )


def _spread(axes: "Axes", values: Sequence[float]) -> None:
    """Make the y axis logarithmic where a power of ten lies between the values."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    if values and max(values) >= 10 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(_power))


def _mark(axes: "Axes", spans: Sequence[tuple[float, float, str]]) -> None:
    """Shade every other span, and name each above the axes where there is room for its name."""
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


def _power(value: float, _: object) -> str:
    """1e-3 and the like: powers as mathematics sets them take a parser of their own."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if value else "0"


def _stand_in(colour: str) -> str:
    return f"#0102{COLOURS.index(colour) + 1:02d}"
