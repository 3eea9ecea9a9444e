"""Features on a plane: their two main directions, ready to draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from transferkit.report.charts import COLOURS

WIDTH, HEIGHT = 460, 340
"""Of the drawing, in its own units."""

_MARGIN = 10
_SHAPES = ("circle", "square", "triangle")


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Some of the validation images on a plane.

    Attributes:
        rows: (M,) int64, which of them.
        points: (M, 2) their coordinates.
        explained: The share of the features' variance along each axis.
    """

    rows: NDArray[np.int64]
    points: NDArray[np.float64]
    explained: tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """How a class is drawn: a colour of the page and a shape."""

    name: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Point:
    """An image on the drawing."""

    x: float
    y: float
    mark: Mark
    wrong: bool
    told: str


def project(rows: NDArray[np.int64], features: NDArray[np.float32]) -> FeatureMap:
    """The two main directions of features: principal component analysis, the same every time.

    Args:
        rows: (M,) which images, M of at least 3.
        features: (M, D).
    """
    centred = torch.from_numpy(features).double()
    centred = centred - centred.mean(dim=0)
    # Of the smaller of D x D and M x M, whose main directions say the same.
    inner = centred @ centred.T
    values, vectors = torch.linalg.eigh(inner)
    main, scale = vectors[:, -2:].flip(1), values[-2:].flip(0).clamp(min=0)
    points = main * scale.sqrt()
    # Either sign of a direction would do; the larger side shall be positive.
    farthest = points.gather(0, points.abs().argmax(dim=0, keepdim=True))
    points = points * torch.where(farthest < 0, -1.0, 1.0)
    total = values.clamp(min=0).sum().clamp(min=torch.finfo(torch.float64).tiny)
    first, second = (scale / total).tolist()
    return FeatureMap(rows, points.numpy(), (first, second))


def class_marks(names: Sequence[str], mistakes: NDArray[np.int64]) -> dict[int, Mark]:
    """A colour and a shape for each class; where there are too many, for those mistaken most.

    Args:
        names: Of the classes.
        mistakes: (C,) how often each was mistaken.

    Returns:
        Class -> its mark, in the order of the classes.
    """
    room = len(COLOURS) * len(_SHAPES)
    chosen = np.arange(len(names))
    if len(names) > room:
        chosen = np.sort(np.argsort(-mistakes, kind="stable")[:room])
    return {
        label: Mark(names[label], COLOURS[place % len(COLOURS)], _SHAPES[place // len(COLOURS)])
        for place, label in enumerate(chosen.tolist())
    }


OTHER = Mark("other classes", "--soft", "dot")


def place_points(
    drawn: FeatureMap,
    marks: dict[int, Mark],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    names: Sequence[str],
    paths: Sequence[str],
) -> list[Point]:
    """The points of a drawing, mistakes last and so on top."""
    low, high = drawn.points.min(axis=0), drawn.points.max(axis=0)
    span = np.maximum(high - low, 1e-12)
    room = np.array([WIDTH - 2 * _MARGIN, HEIGHT - 2 * _MARGIN])
    places = _MARGIN + (drawn.points - low) / span * room
    points = []
    for row, (x, y) in zip(drawn.rows.tolist(), places.tolist(), strict=True):
        label, said = int(labels[row]), int(predicted[row])
        wrong = label != said
        told = f"{paths[row]}: {names[label]}" + (f", taken for {names[said]}" if wrong else "")
        mark = marks.get(label, OTHER)
        points.append(Point(round(x, 1), round(HEIGHT - y, 1), mark, wrong, told))
    return sorted(points, key=lambda point: (point.wrong, point.mark is not OTHER))
