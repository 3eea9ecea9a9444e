"""Who is mistaken for whom: as a table where classes are few, else as a small picture and pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transferkit.report.thumbnails import pixel_picture

TABLE_CLASSES = 20
"""Up to so many classes fit in a table that a phone can show."""

_BLUE, _ORANGE = (0, 114, 178), (213, 94, 0)


@dataclass(frozen=True)
class Pair:
    """A class that was taken for another."""

    label: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """Labels against predictions, ready to show.

    Attributes:
        names: Of the classes.
        counts: (C, C) int64, labels downwards.
        shares: (C, C), each row divided by its sum.
        pairs: The most frequent mistakes.
        heat: A `data:` address of a picture of the shares, where there are too many for a table.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    shares: NDArray[np.float64]
    pairs: tuple[Pair, ...]
    heat: str | None


def describe_confusion(
    counts: NDArray[np.int64], names: Sequence[str], *, pairs: int = 15
) -> Confusion:
    """Prepare a confusion matrix.

    Args:
        counts: (C, C) int64, labels downwards.
        names: C names.
        pairs: How many kinds of mistakes are listed.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    heat = _heat(shares) if len(names) > TABLE_CLASSES else None
    return Confusion(tuple(names), counts, shares, _pairs(counts, shares, names, pairs), heat)


def _pairs(
    counts: NDArray[np.int64], shares: NDArray[np.float64], names: Sequence[str], limit: int
) -> tuple[Pair, ...]:
    wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
    # Of equal counts the larger share of its class, then the order of the classes.
    order = np.lexsort((-shares.ravel(), -wrong.ravel()))[:limit]
    cells = (divmod(int(cell), len(names)) for cell in order)
    return tuple(
        Pair(names[i], names[j], int(wrong[i, j]), float(shares[i, j]))
        for i, j in cells
        if wrong[i, j]
    )


def _heat(shares: NDArray[np.float64]) -> str:
    """Right answers blue, wrong ones orange; rare ones are still seen, so the root of the share."""
    size = len(shares)
    pixels = np.zeros((size, size, 4), dtype=np.uint8)
    pixels[..., :3] = _ORANGE
    pixels[np.eye(size, dtype=bool), :3] = _BLUE
    pixels[..., 3] = np.round(255 * np.sqrt(shares))
    return pixel_picture(Image.fromarray(pixels, "RGBA"))
