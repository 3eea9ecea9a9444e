"""A map of images by their features: the first two principal components, ready to draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from transferkit.report.charts import COLOURS
from transferkit.tables.probabilities import ProbabilityTable

WIDTH, HEIGHT = 460, 340
"""Size of the drawing, in SVG units."""

_MARGIN = 10
_SHAPES = ("circle", "square", "triangle")


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Some of the validation images on a plane.

    Attributes:
        rows: (M,) int64, positions in the list of validation images.
        points: (M, 2) coordinates.
        explained: Share of the features' variance along each axis.
    """

    rows: NDArray[np.int64]
    points: NDArray[np.float64]
    explained: tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """The mark of a class: a colour of the page and a shape."""

    name: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Point:
    """An image on the map; `title` is its tooltip."""

    x: float
    y: float
    mark: Mark
    wrong: bool
    title: str


def project(rows: NDArray[np.int64], features: NDArray[np.float32]) -> FeatureMap:
    """Project features on their first two principal components, with deterministic signs.

    Args:
        rows: (M,) positions of the images, M of at least 3.
        features: (M, D).
    """
    centred = torch.from_numpy(features).double()
    centred = centred - centred.mean(dim=0)
    # The (M, M) Gram matrix has the same leading components as the (D, D) covariance.
    inner = centred @ centred.T
    values, vectors = torch.linalg.eigh(inner)
    main, scale = vectors[:, -2:].flip(1), values[-2:].flip(0).clamp(min=0)
    points = main * scale.sqrt()
    # The sign of a component is arbitrary: make its farthest point positive.
    farthest = points.gather(0, points.abs().argmax(dim=0, keepdim=True))
    points = points * torch.where(farthest < 0, -1.0, 1.0)
    total = values.clamp(min=0).sum().clamp(min=torch.finfo(torch.float64).tiny)
    first, second = (scale / total).tolist()
    return FeatureMap(rows, points.numpy(), (first, second))


def class_marks(names: Sequence[str], mistakes: NDArray[np.int64]) -> dict[int, Mark]:
    """Give each class a colour and a shape; if there are too many, those with most mistakes.

    Args:
        names: Names of the classes.
        mistakes: (C,) number of mistakes that involve each class.

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
    feature_map: FeatureMap, marks: dict[int, Mark], predictions: ProbabilityTable
) -> list[Point]:
    """Return the points of the drawing; mistakes come last, so they are drawn on top.

    Args:
        feature_map: Coordinates of some of the validation images.
        marks: Class -> its mark; other classes are drawn as `OTHER`.
        predictions: The model's predictions for all validation images.
    """
    low, high = feature_map.points.min(axis=0), feature_map.points.max(axis=0)
    span = np.maximum(high - low, 1e-12)
    room = np.array([WIDTH - 2 * _MARGIN, HEIGHT - 2 * _MARGIN])
    places = _MARGIN + (feature_map.points - low) / span * room
    names, predicted = predictions.label_names, predictions.probabilities.argmax(axis=1)
    points = []
    for row, (x, y) in zip(feature_map.rows.tolist(), places.tolist(), strict=True):
        label, prediction = int(predictions.labels[row]), int(predicted[row])
        wrong = label != prediction
        title = f"{predictions.paths[row]}: {names[label]}"
        title += f", predicted {names[prediction]}" if wrong else ""
        mark = marks.get(label, OTHER)
        points.append(Point(round(x, 1), round(HEIGHT - y, 1), mark, wrong, title))
    return sorted(points, key=lambda point: (point.wrong, point.mark is not OTHER))
