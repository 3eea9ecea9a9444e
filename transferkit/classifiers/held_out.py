"""Judge every row by a linear classifier that has not seen it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from transferkit.classifiers import Classifier
from transferkit.classifiers.families import FAMILIES, Settings
from transferkit.classifiers.fitting import (
    Labels,
    Split,
    Splits,
    folds_of,
    of_rows,
    require_fit,
    single_blas_thread,
    some_rows,
)
from transferkit.devices import available_cores

_LINEAR = FAMILIES[Classifier.LINEAR]

_AT_ONCE = 1024
"""Rows of which a scaler takes the mean and the deviation at once."""

_LEAST = float(np.finfo(np.float32).eps)
"""Smaller probabilities count as this one, so that one confident mistake costs 16 nats."""


def held_out_probabilities(
    features: NDArray[np.floating[Any]],
    labels: Labels,
    *,
    seed: int,
    copies: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
    report: Callable[[int], None] = lambda rows: None,
) -> NDArray[np.float64]:
    """Return the probabilities of each row by logistic regression on the other folds.

    The penalty is the one with the lowest log loss of held-out rows. Unlike the accuracy, by which
    `fit_classifier` chooses, it keeps the probabilities honest, and wrong labels raise the penalty.

    Args:
        features: (N, D).
        labels: (N,) int64, each from 0 to the number of classes C - 1.
        seed: Seed of the folds.
        copies: (N,) int64; rows with equal numbers are copies, never on both sides of a fold.
        groups: (N,) int64; rows with equal numbers belong together, copies among them, and are
            never on both sides of a fold.
        report: Receives the number of held-out rows after each fold.

    Returns:
        (N, C); NaN for a row without which no model would know its class.

    Raises:
        DataError: When no class has enough rows for cross-validation, there are too few groups, or
            a feature is not finite.
    """
    require_fit(features, labels, copies)
    rows = features.astype(np.float32, copy=False)
    splits = folds_of(labels, seed, copies, groups)
    probabilities = np.full((len(labels), int(labels.max()) + 1), np.nan)
    # Threads are enough, because solvers and BLAS release the interpreter lock.
    with single_blas_thread(), ThreadPoolExecutor(min(len(splits), available_cores())) as pool:
        chosen = some_rows(labels, copies if groups is None else None, seed)
        tried = folds_of(labels[chosen], seed, of_rows(copies, chosen), of_rows(groups, chosen))
        settings = _best_settings(pool, rows[chosen], labels[chosen], tried)

        def predict(split: Split) -> None:
            train, test = split
            inside, outside = _scaled(rows, split)
            model = _LINEAR.create(**settings).fit(inside, labels[train])
            probabilities[test] = 0.0
            probabilities[np.ix_(test, model.classes_)] = model.predict_proba(outside)

        for (_, test), _ in zip(splits, pool.map(predict, splits), strict=True):
            report(len(test))
    return probabilities


def _best_settings(
    pool: ThreadPoolExecutor, rows: NDArray[np.float32], labels: Labels, splits: Splits
) -> Settings:
    """Return the settings with the lowest log loss of held-out rows."""
    grid = _LINEAR.grid(min(len(train) for train, _ in splits), rows.shape[1])

    def losses(split: Split) -> list[float]:
        """Return the sum of the losses with each penalty, beginning with the strongest."""
        train, test = split
        inside, outside = _scaled(rows, split)
        model = _LINEAR.create(warm_start=True)
        found = []
        for settings in grid:
            model.set_params(**settings).fit(inside, labels[train])
            own = np.full(len(test), _LEAST)
            table = model.predict_proba(outside)
            for column, label in enumerate(model.classes_):
                own[labels[test] == label] = table[labels[test] == label, column]
            found.append(float(-np.log(np.maximum(own, _LEAST)).sum()))
        return found

    return grid[int(np.argmin(np.sum([*pool.map(losses, splits)], axis=0)))]


def _scaled(
    rows: NDArray[np.float32], split: Split
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the rows of both sides of a split, scaled by the mean and deviation of the first."""
    inside, outside = (rows[side] for side in split)
    scaler = StandardScaler(copy=False)  # they are copies already
    # In parts, because it computes in float64, of which it makes copies.
    for start in range(0, len(inside), _AT_ONCE):
        scaler.partial_fit(inside[start : start + _AT_ONCE])
    return scaler.transform(inside), scaler.transform(outside)
