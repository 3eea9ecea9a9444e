"""Calibrate a model's probabilities by one temperature, fitted on validation images.

Guo et al., On calibration of modern neural networks, ICML 2017, section 4.2: logits are divided by
a temperature, which changes the confidence and never the order of the classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transferkit.metrics import Labels, Probabilities, log_loss

_FOLDS = 5

_LOWEST, _HIGHEST, _HALVINGS = 1 / 30, 30.0, 30
"""Temperatures that are considered, and how often their interval is halved."""

SMALLEST = float(np.finfo(np.float32).tiny)
"""Smaller probabilities count as this one, which has a logarithm."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The temperature of a model, and what its probabilities become.

    Attributes:
        temperature: Fitted on all rows; 1 if none improves the probabilities.
        folds: Number of folds of the cross-fitting.
        probabilities: (N, C) float32, each row at a temperature that was fitted on other rows.
    """

    temperature: float
    folds: int
    probabilities: NDArray[np.float32]


def calibrate(
    labels: Labels, probabilities: Probabilities, together: NDArray[np.int64], seed: int
) -> Calibration:
    """Fit a temperature, and return what it does to rows that it was not fitted on.

    The rows are divided into folds; the probabilities of a fold are those at the temperature fitted
    on the other folds. If their log loss is not lower than before, the temperature stays 1.

    Args:
        labels: (N,) int64.
        probabilities: (N, C), the softmax of the logits.
        together: (N,) int64; rows with equal numbers are never on both sides of a fold.
        seed: Seed of the folds.
    """
    unchanged = Calibration(1.0, 0, probabilities.astype(np.float32))
    fold_of, folds = _folds(together, seed)
    if folds < 2:
        return unchanged
    held_out = np.empty(probabilities.shape, dtype=np.float32)
    for fold in range(folds):
        inside = fold_of == fold
        temperature = fit_temperature(labels[~inside], probabilities[~inside])
        held_out[inside] = at_temperature(probabilities[inside], temperature)
    if not log_loss(labels, held_out) < log_loss(labels, probabilities):
        return unchanged
    return Calibration(fit_temperature(labels, probabilities), folds, held_out)


def _folds(together: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], int]:
    """Return the fold of every row, and the number of folds."""
    numbers, group = np.unique(together, return_inverse=True)
    folds = min(_FOLDS, len(numbers))
    of_group = np.random.default_rng(seed).permutation(len(numbers)) % folds
    return of_group[group], folds


def fit_temperature(labels: Labels, probabilities: Probabilities) -> float:
    """Return the temperature with the lowest log loss.

    Of N rows, N + 1 in N + 2 count as labelled rightly, like the targets of Platt, Probabilistic
    outputs for support vector machines, 1999: a few rows without a mistake do not prove that there
    will never be one, and the temperature that they would ask for is 0.

    Args:
        labels: (N,) int64 with N > 0.
        probabilities: (N, C), the softmax of the logits.
    """
    logits = _logits(probabilities)
    rows = np.arange(len(labels))
    share_right = (len(labels) + 1) / (len(labels) + 2)
    own = logits[rows, labels].mean()
    others = logits.copy()
    others[rows, labels] = -np.inf
    likeliest = others.max(axis=1).mean()
    target = share_right * own + (1 - share_right) * likeliest

    # The log loss is convex in 1 / temperature, so its slope is bisected.
    low, high = _LOWEST, _HIGHEST
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        # The logits are at most 0, and 0 where the row is largest.
        shares = np.exp(logits / middle)
        expected = ((shares * logits).sum(axis=1) / shares.sum(axis=1)).mean()
        low, high = (middle, high) if expected > target else (low, middle)
    return float(np.sqrt(low * high))


def at_temperature(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Return the probabilities (N, C) that the logits give when divided by a temperature."""
    scaled = np.exp(_logits(probabilities) / temperature)
    normal: Probabilities = scaled / scaled.sum(axis=1, keepdims=True)
    return normal.astype(probabilities.dtype)


def _logits(probabilities: Probabilities) -> NDArray[np.float64]:
    """Return logits (N, C) whose softmax the probabilities are; the largest of a row is 0."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
    normal: NDArray[np.float64] = logits - logits.max(axis=1, keepdims=True)
    return normal
