"""A curve as text, for terminals and pipes."""

import math
from collections.abc import Sequence

_WIDTH, _HEIGHT = 64, 12


def draw_curve(xs: Sequence[float], ys: Sequence[float], mark: float | None) -> str:
    """Draw y over x on a logarithmic x axis.

    Args:
        xs: Positive and increasing, at least two.
        ys: Finite, one per x.
        mark: The x of a vertical line; None for no line.

    Returns:
        Lines of at most 75 columns.
    """
    low, high = min(ys), max(ys)
    columns = [_column(x, xs) for x in xs]
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    if mark is not None:
        for row in grid:
            row[_column(mark, xs)] = "┊"
    for column, y in zip(columns, ys, strict=True):
        share = (y - low) / (high - low) if high > low else 0.5
        grid[round((1 - share) * (_HEIGHT - 1))][column] = "•"
    labels = [f"{high:.2f}", *[""] * (_HEIGHT - 2), f"{low:.2f}"]
    lines = [
        f"{label:>8} │{''.join(row).rstrip()}" for label, row in zip(labels, grid, strict=True)
    ]
    first, last = f"{xs[0]:.0e}", f"{xs[-1]:.0e}"
    axis = " " * 9 + "└" + "─" * _WIDTH
    return "\n".join([*lines, axis, " " * 10 + first + last.rjust(_WIDTH - len(first))])


def _column(x: float, xs: Sequence[float]) -> int:
    span = math.log(xs[-1] / xs[0])
    return min(_WIDTH - 1, max(0, round(math.log(x / xs[0]) / span * (_WIDTH - 1))))
