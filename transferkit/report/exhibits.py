"""The inside of a network as pictures: kernels and feature maps, as PNG files."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferkit.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 120
_WIDTH = 720
"""Of the drawn kernels, in pixels, about."""

_WITHIN_SCALE = 0.995
"""Share of the weights that the scale of the kernels spans."""

_TITLE = 64
"""Pixels above them for a title of three lines."""

_CELL = 1.15
"""Inches of a map and what stands above it."""

_ABOVE = 0.65
"""Inches above the maps for a title of two lines and the first row's numbers."""

_NARROWEST = 6.0
"""Inches that a title needs."""

_WIDEST_PICTURE = 4
"""The side of the picture beside the maps, in maps."""


def draw_kernels(kernels: NDArray[np.float32], path: Path, *, title: str) -> None:
    """Draw the kernels of a convolution side by side.

    Of three channels in colour, of any others their mean in grey. Zero is grey, and one scale holds
    for all of them, so that weak ones look weak; the few strongest weights lie beyond it.

    Args:
        kernels: (N, C, h, w).
        path: PNG file.
        title: What they are.

    Raises:
        OutputError: When the file cannot be written.
    """
    from matplotlib.figure import Figure  # takes half a second, and the table needs none

    in_colour = kernels.shape[1] == 3
    shown = kernels if in_colour else kernels.mean(axis=1, keepdims=True)
    limit = float(np.quantile(np.abs(shown), _WITHIN_SCALE) or np.abs(shown).max()) or 1.0
    grid = _mosaic(np.clip(shown / limit, -1, 1))
    scale = max(1, round(_WIDTH / grid.shape[1]))
    pixels = grid.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = pixels.shape[:2]
    figure = Figure(figsize=(width / _DPI, (height + _TITLE) / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, height / (height + _TITLE)))
    axes.imshow(pixels, interpolation="nearest", cmap="gray", vmin=0, vmax=1)
    axes.axis("off")
    told = f"grey is 0; lightest and darkest are {limit:.2g} and -{limit:.2g}, or beyond"
    told = told if in_colour else f"mean over input channels; {told}"
    _write_above(figure, f"{title}\n{told}", top=1 - 6 / (height + _TITLE))
    _save(figure, path)


def _mosaic(kernels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, C, h, w) of -1..1 to one picture (H, W, C) of 0..1, a white pixel between kernels."""
    count, channels, height, width = kernels.shape
    columns = _columns(count)
    rows = math.ceil(count / columns)
    grid = np.ones((rows * (height + 1) + 1, columns * (width + 1) + 1, channels), np.float32)
    for i, kernel in enumerate(kernels):
        top, left = 1 + i // columns * (height + 1), 1 + i % columns * (width + 1)
        grid[top : top + height, left : left + width] = (kernel.transpose(1, 2, 0) + 1) / 2
    return grid


def _columns(count: int) -> int:
    """Columns of a grid that is wider than high, and full where it need not get far wider."""
    root = math.isqrt(count - 1) + 1
    return next((n for n in range(root, 2 * root + 1) if count % n == 0), root)


def strongest_channels(maps: NDArray[np.float32], count: int) -> list[int]:
    """The channels that vary most over a picture, by their standard deviation, the most first.

    Args:
        maps: (C, h, w).
        count: How many.
    """
    spread = maps.reshape(len(maps), -1).std(axis=1)
    order: list[int] = np.argsort(-spread, kind="stable")[:count].tolist()
    return order


def draw_maps(
    maps: NDArray[np.float32],
    picture: NDArray[np.uint8],
    path: Path,
    *,
    count: int,
    title: str,
) -> None:
    """Draw the maps of a layer that vary most, beside the picture that they are of.

    Each has a scale of its own, dark for its lowest value and bright for its highest, and its
    channel's number above it.

    Args:
        maps: (C, h, w).
        picture: (H, W, 3), as the network sees it.
        path: PNG file.
        count: How many channels.
        title: What they are.

    Raises:
        OutputError: When the file cannot be written.
    """
    from matplotlib.figure import Figure

    channels = strongest_channels(maps, count)
    columns = _columns(len(channels))
    rows = math.ceil(len(channels) / columns)
    beside = min(rows, _WIDEST_PICTURE)
    width, height = max(_NARROWEST, _CELL * (beside + columns)), _CELL * rows + _ABOVE
    figure = Figure(figsize=(width, height), dpi=_DPI)
    # Placed by hand: to let matplotlib find the layout takes longer than all the drawing.
    grid = figure.add_gridspec(
        rows,
        1 + columns,
        width_ratios=[beside, *[1] * columns],
        left=0.01,
        right=0.99,
        bottom=0.01,
        top=1 - _ABOVE / height,
        wspace=0.1,
        hspace=0.2,
    )
    _show(figure.add_subplot(grid[:, 0]), picture, "")
    for i, channel in enumerate(channels):
        axes = figure.add_subplot(grid[i // columns, 1 + i % columns])
        _show(axes, maps[channel], str(channel))
    _write_above(figure, title, top=1 - 0.08 / height)
    _save(figure, path)


def _show(axes: Any, pixels: NDArray[Any], label: str) -> None:
    axes.imshow(pixels, interpolation="nearest", cmap="viridis")
    axes.set_title(label, fontsize=7, pad=2)
    axes.axis("off")


def _write_above(figure: "Figure", text: str, *, top: float) -> None:
    # Names may hold a $, which matplotlib would take for a formula.
    figure.text(0.5, top, text, ha="center", va="top", fontsize=9, parse_math=False)


def _save(figure: "Figure", path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)
