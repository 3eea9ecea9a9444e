"""Metrics of predictions, as pure functions of labels and probabilities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.intervals import wilson_interval

Labels = NDArray[np.int64]
Probabilities = NDArray[np.floating[Any]]

_ECE_BINS = 15

DOUBT_FACTOR = 3
"""A label is doubted if another class is at least this many times as probable. Where every fifth
label is wrong, an honest model is hardly ever surer than 80 %, so that a higher factor would miss
the more labels the more of them are wrong."""


def top_k_accuracy(labels: Labels, probabilities: Probabilities, k: int = 1) -> float:
    """Return the share of rows whose label is among the k most probable classes.

    Args:
        labels: (N,) int64.
        probabilities: (N, C). Ties go to the lower class index.
        k: 1 or more; for k >= C the result is 1.
    """
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean(np.any(best == labels[:, None], axis=1)))


def log_loss(labels: Labels, probabilities: Probabilities) -> float:
    """Return the mean negative logarithm of the label's probability, in nats.

    Probabilities are clipped from below at the machine epsilon of float32, so that one confident
    mistake costs 16 nats instead of infinity.
    """
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(own, np.finfo(np.float32).eps)).mean())


def expected_calibration_error(labels: Labels, probabilities: Probabilities) -> float:
    """Return the gap between confidence and accuracy, 0 at best: Guo et al., ICML 2017, equation 3.

    Rows are binned by their highest probability, in 15 bins of equal width.
    """
    confidence, correct, bins = _by_confidence(labels, probabilities)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=_ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def reliability(
    labels: Labels, probabilities: Probabilities
) -> tuple[tuple[float, float, int], ...]:
    """Return (mean confidence, accuracy, rows) of each of the 15 bins of the calibration error.

    The first two are NaN for a bin without rows.
    """
    confidence, correct, bins = _by_confidence(labels, probabilities)
    counts = np.bincount(bins, minlength=_ECE_BINS)
    sums = (np.bincount(bins, weights=w, minlength=_ECE_BINS) for w in (confidence, correct))
    with np.errstate(invalid="ignore"):
        means = [total / counts for total in sums]
    return tuple(zip(*(mean.tolist() for mean in means), counts.tolist(), strict=True))


def _by_confidence(
    labels: Labels, probabilities: Probabilities
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return each row's confidence, whether it is correct, and its bin."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * _ECE_BINS).astype(np.int64) - 1, 0, _ECE_BINS - 1)
    return confidence, correct, bins


def confusion(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """Return the confusion matrix, (C, C) int64: labels in rows, predicted classes in columns."""
    count = probabilities.shape[1]
    cells = labels * count + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=count * count).reshape(count, count)


def confused_pairs(matrix: NDArray[np.int64]) -> tuple[tuple[int, int, int, float], ...]:
    """Return the pairs of classes that are mistaken for each other, the most confused first.

    Args:
        matrix: (C, C), labels in rows, predicted classes in columns.

    Returns:
        (class, other class, rows of either that were taken for the other, their share of the rows
        that either class has), for each pair with such rows.
    """
    swapped, sizes = matrix + matrix.T, matrix.sum(axis=1)
    first, second = np.nonzero(np.triu(swapped, 1))
    counts = swapped[first, second]
    shares = counts / (sizes[first] + sizes[second])
    order = np.argsort(-shares, kind="stable")
    return tuple((int(first[i]), int(second[i]), int(counts[i]), float(shares[i])) for i in order)


def doubtful_labels(
    labels: Labels, probabilities: Probabilities
) -> tuple[tuple[int, int, float], ...]:
    """Return the rows for which another class is `DOUBT_FACTOR` times as probable as their label.

    The doubt is the share of the other class in the probability of the two: 0.75 where it is three
    times as probable, 0.9 where it is nine times as probable. Confident learning (Northcutt, Jiang
    and Chuang, JAIR 2021) also asks that the other class reach its mean confidence, and finds fewer
    of the labels that are wrong (measured in `docs/how-to/audit.md`).

    Args:
        labels: (N,) int64.
        probabilities: (N, C), from models that were not trained on these rows.

    Returns:
        (row, most probable class, doubt), the most doubtful first.
    """
    rows, best = np.arange(len(labels)), probabilities.argmax(axis=1)
    own = probabilities[rows, labels].astype(np.float64)
    highest = probabilities[rows, best].astype(np.float64)
    doubts = highest / (highest + own)
    return tuple(
        (int(row), int(best[row]), float(doubts[row]))
        for row in np.argsort(-doubts, kind="stable")
        if highest[row] >= DOUBT_FACTOR * own[row]
    )


def per_class(
    labels: Labels, probabilities: Probabilities, class_names: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """Return precision, recall, f1 and the count n of every class.

    Recall and f1 of a class without rows are None, as is the precision of a class that was never
    predicted: they were not measured.
    """
    predicted = probabilities.argmax(axis=1)
    table: dict[str, dict[str, float | int | None]] = {}
    for i, name in enumerate(class_names):
        hits = int(((predicted == i) & (labels == i)).sum())
        said, true = int((predicted == i).sum()), int((labels == i).sum())
        table[name] = {
            "precision": hits / said if said else None,
            "recall": hits / true if true else None,
            "f1": 2 * hits / (said + true) if true else None,
            "n": true,
        }
    return table


def summarize(
    labels: Labels, probabilities: Probabilities, class_names: Sequence[str]
) -> dict[str, Any]:
    """Return all metrics of one set of rows, as JSON values.

    Args:
        labels: (N,) int64 with N > 0.
        probabilities: (N, C), each row summing to 1.
        class_names: C names.

    Returns:
        accuracy, accuracy_interval (see `wilson_interval`), top5, macro_f1 (the mean over the
        classes that have rows), log_loss, ece, n, without_images (the names of the other classes),
        per_class.
    """
    classes = per_class(labels, probabilities, class_names)
    present = [row["f1"] for row in classes.values() if row["f1"] is not None]
    accuracy = top_k_accuracy(labels, probabilities)
    return {
        "accuracy": accuracy,
        "accuracy_interval": wilson_interval(round(accuracy * len(labels)), len(labels)),
        "top5": top_k_accuracy(labels, probabilities, 5),
        "macro_f1": float(np.mean(present)),
        "log_loss": log_loss(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
        "n": len(labels),
        "without_images": [name for name, row in classes.items() if not row["n"]],
        "per_class": classes,
    }


def majority_baseline(labels: Labels, train_labels: Labels) -> float:
    """Return the accuracy of always predicting the most frequent class of the training images."""
    return float(np.mean(labels == np.bincount(train_labels).argmax()))
