"""The confusion matrix: a table for few classes, an image and the most frequent pairs for many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transferkit.report.thumbnails import png_address

TABLE_CLASSES = 20
"""Largest number of classes whose table fits on a phone."""

_BLUE, _ORANGE = (0, 114, 178), (213, 94, 0)


@dataclass(frozen=True)
class Pair:
    """A class that was predicted as another.

    Attributes:
        label: The class.
        predicted: The other class.
        count: Number of images.
        share: Their share of the label's images.
    """

    label: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """A confusion matrix, ready to show.

    Attributes:
        names: Names of the C classes.
        counts: (C, C) int64, one row per label, one column per prediction.
        shares: (C, C), each row of `counts` divided by its sum.
        pairs: The most frequent mistakes.
        heat: `data:` address of an image of the shares; None if a table can show them.
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
        counts: (C, C) int64, one row per label, one column per prediction.
        names: C names.
        pairs: How many pairs of classes to list at most.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    heat = _heat(shares) if len(names) > TABLE_CLASSES else None
    return Confusion(tuple(names), counts, shares, _pairs(counts, shares, names, pairs), heat)


def _pairs(
    counts: NDArray[np.int64], shares: NDArray[np.float64], names: Sequence[str], limit: int
) -> tuple[Pair, ...]:
    wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
    # Ties go to the larger share of its class, then to the order of the classes.
    order = np.lexsort((-shares.ravel(), -wrong.ravel()))[:limit]
    cells = (divmod(int(cell), len(names)) for cell in order)
    return tuple(
        Pair(names[i], names[j], int(wrong[i, j]), float(shares[i, j]))
        for i, j in cells
        if wrong[i, j]
    )


def _heat(shares: NDArray[np.float64]) -> str:
    """Return an image: diagonal blue, mistakes orange, opacity the square root of the share."""
    size = len(shares)
    pixels = np.zeros((size, size, 4), dtype=np.uint8)
    pixels[..., :3] = _ORANGE
    pixels[np.eye(size, dtype=bool), :3] = _BLUE
    pixels[..., 3] = np.round(255 * np.sqrt(shares))
    return png_address(Image.fromarray(pixels, "RGBA"))
