"""Choose a classifier's settings by cross-validation, fit it on all rows, and calibrate it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from transferkit.classifiers import Classifier
from transferkit.classifiers.families import FAMILIES, Family, Fold, Settings
from transferkit.data.groups import grouped_folds
from transferkit.devices import available_cores
from transferkit.errors import DataError, OptionError

FOLDS = 5
SEARCH_ROWS = 5000
"""Largest number of rows for cross-validation; the chosen settings are fitted on all rows."""

Labels = NDArray[np.int64]
Split = tuple[NDArray[np.int64], NDArray[np.int64]]
Splits = Sequence[Split]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted classifier.

    Attributes:
        estimator: scikit-learn estimator from features to probabilities, including the scaling.
        settings: Settings that cross-validation chose.
        tried: Every setting with its accuracy, in the order of the grid.
        correct: Number of held-out rows that the chosen setting classified correctly.
        searched: Number of rows that were held out in turn.
        folds: Number of folds.
    """

    estimator: Any
    settings: Settings
    tried: tuple[tuple[Settings, float], ...]
    correct: int
    searched: int
    folds: int


def require_weights_possible(kind: Classifier, *, balanced: bool) -> None:
    """Check that a classifier can weight classes if that is requested.

    Raises:
        OptionError: When it cannot.
    """
    if balanced and not FAMILIES[kind].takes_class_weight:
        able = ", ".join(k for k, family in FAMILIES.items() if family.takes_class_weight)
        raise OptionError(
            f"--class-weights balanced: {kind} does not weight classes; take {able}, or none"
        )


def grid_size(kind: Classifier, rows: int, width: int) -> int:
    """Return the number of settings that are tried on `rows` training rows of `width` features."""
    return len(FAMILIES[kind].grid(rows, width))


def fit_classifier(
    kind: Classifier,
    features: NDArray[np.floating[Any]],
    labels: Labels,
    *,
    seed: int,
    balanced: bool = False,
    copies: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
    report: Callable[[int], None] = lambda rows: None,
) -> Fitted:
    """Fit a classifier on features.

    Stratified cross-validation chooses the settings with the highest accuracy; ties go to the
    simplest model. A temperature, fitted on held-out rows as well, turns scores into probabilities:
    Guo et al., On calibration of modern neural networks, ICML 2017, section 4.2.

    Args:
        kind: The classifier.
        features: (N, D).
        labels: (N,) int64.
        seed: Seed of the folds, and of the fit if it is random.
        balanced: Whether rare classes count as much as frequent ones.
        copies: (N,) int64; rows with equal numbers are copies, never on both sides of a fold.
        groups: (N,) int64; rows with equal numbers belong together, copies among them, and are
            never on both sides of a fold.
        report: Receives the number of held-out rows after each fold.

    Raises:
        DataError: When no class has enough rows for cross-validation, there are too few groups, or
            a feature is not finite.
        OptionError: When the classifier cannot weight classes.
    """
    require_weights_possible(kind, balanced=balanced)
    family = FAMILIES[kind]
    common: dict[str, Any] = {"class_weight": "balanced"} if balanced else {}
    common |= {"random_state": seed} if family.takes_seed else {}
    require_fit(features, labels, copies)
    rows = features.astype(np.float64)  # in which rounding stays far below the digits shown
    with single_blas_thread():
        chosen = some_rows(labels, copies if groups is None else None, seed)
        splits = folds_of(labels[chosen], seed, of_rows(copies, chosen), of_rows(groups, chosen))
        correct, grid = _cross_validate(
            family, rows[chosen], labels[chosen], common, splits, report
        )
        best = int(np.argmax(correct))  # the first of those with equal accuracy
        held_out = _partition(folds_of(labels, seed, copies, groups)) if family.calibrated else None
        estimator = _fit_estimator(family, {**grid[best], **common}, rows, labels, held_out)
    count = sum(len(test) for _, test in splits)
    tried = zip(grid, (float(c) / count for c in correct), strict=True)
    return Fitted(estimator, grid[best], tuple(tried), int(correct[best]), count, len(splits))


def require_fit(
    features: NDArray[np.floating[Any]], labels: Labels, copies: NDArray[np.int64] | None
) -> None:
    """Check that classifiers can be fitted on features (N, D) and be cross-validated.

    Raises:
        DataError: When they cannot be cross-validated, or one is not finite.
    """
    if not np.isfinite(features).all():
        raise DataError("some features are not finite numbers; try --precision fp32")
    require_enough(labels, copies)


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Compute the block with one BLAS thread: those of scikit-learn and BLAS wait for each other.

    Warnings of fits that have not converged are ignored.
    """
    with threadpool_limits(1, "blas"), catch_warnings():
        simplefilter("ignore", ConvergenceWarning)
        yield


def _fit_estimator(
    family: Family,
    settings: Settings,
    rows: NDArray[np.float64],
    labels: Labels,
    held_out: Splits | None,
) -> Any:
    """Fit the scaling and the classifier on all rows, and a temperature on held-out ones if any."""
    estimator = make_pipeline(StandardScaler(), family.create(**settings))
    # scikit-learn's temperature takes labels for columns of scores, so they must have no gaps.
    known, columns = np.unique(labels, return_inverse=True)
    if held_out is None:
        estimator.fit(rows, columns).steps[-1][1].classes_ = known
        return estimator
    calibrated = CalibratedClassifierCV(
        estimator, method="temperature", cv=held_out, ensemble=False
    )
    # The folds are no longer needed, and they would be saved with the model.
    calibrated.fit(rows, columns).set_params(cv=None).classes_ = known
    return calibrated


def _cross_validate(
    family: Family,
    features: NDArray[np.float64],
    labels: Labels,
    common: Mapping[str, Any],
    splits: Splits,
    report: Callable[[int], None],
) -> tuple[NDArray[np.int64], tuple[Settings, ...]]:
    """Return the number of correct held-out rows per setting, and the settings."""
    grid = family.grid(min(len(train) for train, _ in splits), features.shape[1])
    correct = np.zeros(len(grid), dtype=np.int64)

    def answer(split: Split) -> list[int]:
        train, test = split
        scaler = StandardScaler().fit(features[train])
        fold = Fold(
            scaler.transform(features[train]), labels[train], scaler.transform(features[test])
        )
        return [int((a == labels[test]).sum()) for a in family.answers(fold, grid, common)]

    # Threads are enough, because solvers and BLAS release the interpreter lock.
    with ThreadPoolExecutor(min(len(splits), available_cores())) as pool:
        for (_, test), in_fold in zip(splits, pool.map(answer, splits), strict=True):
            correct += in_fold
            report(len(test))
    return correct, grid


def require_enough(labels: Labels, copies: NDArray[np.int64] | None = None) -> int:
    """Check that cross-validation can hold out a part of the rows.

    Args:
        labels: (N,) int64.
        copies: (N,) int64; rows with equal numbers are copies and count once.

    Returns:
        The number of folds, 2 to 5. A class with a single row is trained on in all of them.

    Raises:
        DataError: When no class has two different rows.
    """
    _, first = _distinct(labels, copies)
    counts = np.bincount(labels[first])
    if counts.max() < 2:
        raise DataError(
            "every class has one training image, copies apart, and cross-validation needs 2 of "
            "some class; add images"
        )
    return int(min(FOLDS, counts[counts > 1].min()))


def _distinct(
    labels: Labels, copies: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the image of each row, numbered from 0, and the first row of each image."""
    numbers = np.arange(len(labels)) if copies is None else copies
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    return inverse, first


def folds_of(
    labels: Labels,
    seed: int,
    copies: NDArray[np.int64] | None,
    groups: NDArray[np.int64] | None,
) -> Splits:
    """Return (training rows, held-out rows) of stratified folds that divide no image or group."""
    if groups is None:
        held_out = _stratified_folds(labels, seed, copies)
    else:
        count = min(FOLDS, len(np.unique(groups)), int(np.bincount(labels).max()))
        held_out = grouped_folds(labels, groups, max(count, 2), seed)
    every = np.arange(len(labels))
    return [(np.setdiff1d(every, rows), rows) for rows in held_out if len(rows)]


def _stratified_folds(
    labels: Labels, seed: int, copies: NDArray[np.int64] | None
) -> list[NDArray[np.int64]]:
    """Return the rows of each fold; those of a class with a single image are in none."""
    folds = StratifiedKFold(require_enough(labels, copies), shuffle=True, random_state=seed)
    image, first = _distinct(labels, copies)
    several = np.flatnonzero((np.bincount(labels[first]) > 1)[labels[first]])
    return [
        np.flatnonzero(np.isin(image, several[rows]))
        for _, rows in folds.split(several, labels[first[several]])
    ]


def _partition(splits: Splits) -> Splits:
    """Return the splits with every row held out once, as scikit-learn's calibration needs it.

    A row that no fold can spare is held out in the first without leaving its training rows: without
    it the model of that fold would not know the row's class.
    """
    (train, rows), *others = splits
    held_out = np.concatenate([test for _, test in splits])
    spared = np.setdiff1d(np.union1d(train, rows), held_out)
    return [(train, np.union1d(rows, spared)), *others]


def of_rows(numbers: NDArray[np.int64] | None, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the numbers of some rows, if there are numbers."""
    return None if numbers is None else numbers[rows]


def some_rows(labels: Labels, copies: NDArray[np.int64] | None, seed: int) -> NDArray[np.int64]:
    """Return the rows for cross-validation: all, or a share of each class without copies."""
    if len(labels) <= SEARCH_ROWS:
        return np.arange(len(labels))
    _, first = _distinct(labels, copies)
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        rows = first[labels[first] == label]
        count = max(SEARCH_ROWS * len(rows) // len(first), FOLDS)
        chosen.append(random.permutation(rows)[:count])
    return np.sort(np.concatenate(chosen))
