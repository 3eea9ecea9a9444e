"""Gradients of scikit-learn classifiers, computed as differences of their probabilities."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

Probabilities = Callable[[NDArray[np.float64]], NDArray[np.floating[Any]]]
"""Function from features (N, D) to probabilities (N, C)."""

_STEP = 1e-5
"""Step of a difference, relative to the row's root mean square; rounding stays near 1e-10."""

_FLOOR = 1e-300
_NUMBERS_AT_ONCE = 2**24


def follows_features(classifier: Any) -> bool:
    """Return whether a classifier's probabilities change smoothly with the features.

    Those of k-nearest neighbours do not: they jump when a neighbour changes.
    """
    last = classifier.steps[-1][1] if isinstance(classifier, Pipeline) else classifier
    return not isinstance(last, KNeighborsClassifier)


def log_odds(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return log(p / (1 - p)) of every class, (N, C) and finite.

    1 - p is computed as the sum over the other classes, which is exact even if p is nearly 1.
    """
    p = probabilities.astype(np.float64)
    others = np.stack([np.delete(p, c, axis=1).sum(axis=1) for c in range(p.shape[1])], axis=1)
    found: NDArray[np.float64] = np.log(np.maximum(p, _FLOOR)) - np.log(np.maximum(others, _FLOOR))
    return found


def log_odds_gradient(
    probabilities: Probabilities, row: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the gradient of a weighted sum of the classes' log-odds, by central differences.

    Args:
        probabilities: The classifier.
        row: (D,) features.
        weights: (C,) weights of the classes.

    Returns:
        (D,); the error is of second order in the step.
    """
    width = len(row)
    step = _STEP * (float(np.sqrt(np.mean(np.square(row)))) or 1.0)
    gradient = np.empty(width)
    count = max(_NUMBERS_AT_ONCE // width, 1)
    for first in range(0, width, count):
        moved = np.arange(first, min(first + count, width))
        rows = np.repeat(row[None], 2 * len(moved), axis=0)
        rows[np.arange(len(moved)), moved] += step
        rows[np.arange(len(moved), 2 * len(moved)), moved] -= step
        odds = log_odds(probabilities(rows)) @ weights
        gradient[moved] = (odds[: len(moved)] - odds[len(moved) :]) / (2 * step)
    return gradient
