"""Drawings of a network's kernels and feature maps, as PNG files."""

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
"""Approximate width of the drawn kernels, in pixels."""

_WITHIN_SCALE = 0.995
"""Share of the weights within the grey scale of the kernels."""

_TITLE_HEIGHT = 64
"""Pixels above the kernels for a title of three lines."""

_CELL = 1.15
"""Inches of a map and the number above it."""

_HEADER = 0.65
"""Inches above the maps for a title of two lines and the first row's numbers."""

_MIN_WIDTH = 6.0
"""Inches that a title needs."""

_MAX_IMAGE_CELLS = 4
"""Largest side of the image beside the maps, in cells."""


def draw_kernels(kernels: NDArray[np.float32], path: Path, *, title: str) -> None:
    """Draw the kernels of a convolution side by side.

    Kernels of three channels are drawn in colour, others as the mean over channels in grey. Zero is
    grey. All kernels share one scale, so that weak ones look weak; the few strongest weights are
    clipped.

    Args:
        kernels: (N, C, h, w).
        path: PNG file to write.
        title: Title above the drawing.

    Raises:
        OutputError: When the file cannot be written.
    """
    from matplotlib.figure import Figure  # takes half a second to import; most calls draw nothing

    in_colour = kernels.shape[1] == 3
    shown = kernels if in_colour else kernels.mean(axis=1, keepdims=True)
    limit = float(np.quantile(np.abs(shown), _WITHIN_SCALE) or np.abs(shown).max()) or 1.0
    grid = _mosaic(np.clip(shown / limit, -1, 1))
    scale = max(1, round(_WIDTH / grid.shape[1]))
    pixels = grid.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = pixels.shape[:2]
    figure = Figure(figsize=(width / _DPI, (height + _TITLE_HEIGHT) / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, height / (height + _TITLE_HEIGHT)))
    axes.imshow(pixels, interpolation="nearest", cmap="gray", vmin=0, vmax=1)
    axes.axis("off")
    legend = f"grey is 0, white is {limit:.2g} or more, black is -{limit:.2g} or less"
    legend = legend if in_colour else f"mean over input channels; {legend}"
    _write_title(figure, f"{title}\n{legend}", top=1 - 6 / (height + _TITLE_HEIGHT))
    _save(figure, path)


def _mosaic(kernels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Arrange kernels (N, C, h, w) in -1..1 as one image (H, W, C) in 0..1, one pixel apart."""
    count, channels, height, width = kernels.shape
    columns = _columns(count)
    rows = math.ceil(count / columns)
    grid = np.ones((rows * (height + 1) + 1, columns * (width + 1) + 1, channels), np.float32)
    for i, kernel in enumerate(kernels):
        top, left = 1 + i // columns * (height + 1), 1 + i % columns * (width + 1)
        grid[top : top + height, left : left + width] = (kernel.transpose(1, 2, 0) + 1) / 2
    return grid


def _columns(count: int) -> int:
    """Return the columns of a grid for `count` cells: wider than high, without gaps if possible."""
    root = math.isqrt(count - 1) + 1
    return next((n for n in range(root, 2 * root + 1) if count % n == 0), root)


def strongest_channels(maps: NDArray[np.float32], count: int) -> list[int]:
    """Return the channels with the largest standard deviation over positions, largest first.

    Args:
        maps: (C, h, w).
        count: How many to return at most.
    """
    spread = maps.reshape(len(maps), -1).std(axis=1)
    order: list[int] = np.argsort(-spread, kind="stable")[:count].tolist()
    return order


def draw_maps(
    maps: NDArray[np.float32],
    image: NDArray[np.uint8],
    path: Path,
    *,
    count: int,
    title: str,
) -> None:
    """Draw the feature maps that vary most, beside the image they were computed from.

    Each map has its own scale, dark for its lowest value and bright for its highest. The number of
    its channel is written above it.

    Args:
        maps: (C, h, w).
        image: (H, W, 3), as the network sees it.
        path: PNG file to write.
        count: Number of channels to draw.
        title: Title above the drawing.

    Raises:
        OutputError: When the file cannot be written.
    """
    from matplotlib.figure import Figure

    channels = strongest_channels(maps, count)
    columns = _columns(len(channels))
    rows = math.ceil(len(channels) / columns)
    beside = min(rows, _MAX_IMAGE_CELLS)
    width, height = max(_MIN_WIDTH, _CELL * (beside + columns)), _CELL * rows + _HEADER
    figure = Figure(figsize=(width, height), dpi=_DPI)
    # A fixed layout: matplotlib's automatic layout takes longer than all the drawing.
    grid = figure.add_gridspec(
        rows,
        1 + columns,
        width_ratios=[beside, *[1] * columns],
        left=0.01,
        right=0.99,
        bottom=0.01,
        top=1 - _HEADER / height,
        wspace=0.1,
        hspace=0.2,
    )
    _show(figure.add_subplot(grid[:, 0]), image, "")
    for i, channel in enumerate(channels):
        axes = figure.add_subplot(grid[i // columns, 1 + i % columns])
        _show(axes, maps[channel], str(channel))
    _write_title(figure, title, top=1 - 0.08 / height)
    _save(figure, path)


def _show(axes: Any, pixels: NDArray[Any], label: str) -> None:
    axes.imshow(pixels, interpolation="nearest", cmap="viridis")
    axes.set_title(label, fontsize=7, pad=2)
    axes.axis("off")


def _write_title(figure: "Figure", text: str, *, top: float) -> None:
    # Names may contain a $, which matplotlib would parse as a formula.
    figure.text(0.5, top, text, ha="center", va="top", fontsize=9, parse_math=False)


def _save(figure: "Figure", path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)
