"""Predict labels from a few numbers per image, such as its width, by a random forest."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from transferkit.classifiers.fitting import Labels, folds_of
from transferkit.devices import available_cores

_TREES, _FEWEST_PER_LEAF = 100, 3


def held_out_labels(
    values: NDArray[np.floating[Any]], labels: Labels, *, seed: int, copies: NDArray[np.int64]
) -> Labels:
    """Predict the label of each row by a forest that has not seen it.

    Args:
        values: (N, K).
        labels: (N,) int64.
        seed: Seed of the folds and of the forests.
        copies: (N,) int64; rows with equal numbers are copies, never on both sides of a fold.

    Returns:
        (N,) int64; -1 for a row without which no forest would know its class.

    Raises:
        DataError: When no class has enough rows for cross-validation.
    """
    predicted = np.full(len(labels), -1, dtype=np.int64)
    for train, test in folds_of(labels, seed, copies, None):
        forest = RandomForestClassifier(
            _TREES,
            min_samples_leaf=_FEWEST_PER_LEAF,
            random_state=seed,
            n_jobs=available_cores(),
        )
        predicted[test] = forest.fit(values[train], labels[train]).predict(values[test])
    return predicted
