"""The classifiers: the settings that each tries, and how a grid of them is cross-validated fast.

To add a classifier, add a member to `Classifier`, a row to `FAMILIES`, and the types of its
estimator to `storage.ALLOWED`. Every `answers` predicts exactly what the estimator itself would for
each setting, but computes only once what several settings share.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_sample_weight

from transferkit.classifiers import Classifier

Settings = Mapping[str, Any]
"""Arguments of an estimator."""

Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """Training and test rows of one fold, with features standardised by the training rows.

    Attributes:
        train: (N, D) float64.
        labels: (N,) int64 labels of the training rows.
        test: (M, D) float64.
    """

    train: NDArray[np.float64]
    labels: Labels
    test: NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """A kind of classifier.

    Attributes:
        grid: `grid(rows, features)` returns the settings to try for so many training rows and
            features, from the simplest model to the most flexible one.
        create: `create(**settings)` returns an unfitted estimator.
        answers: `answers(fold, grid, common)` yields the predicted labels of the test rows, (M,)
            int64, for each setting of the grid together with the common settings.
        takes_class_weight: Whether the estimator accepts class_weight.
        takes_seed: Whether its fit is random.
        calibrated: Whether a temperature turns its scores into probabilities: either it has no
            probabilities, or a strong penalty makes them underconfident.
    """

    grid: Callable[[int, int], tuple[Settings, ...]]
    create: Callable[..., BaseEstimator]
    answers: Callable[[Fold, Sequence[Settings], Settings], Iterator[Labels]]
    takes_class_weight: bool = True
    takes_seed: bool = False
    calibrated: bool = True


def _svm(**settings: Any) -> SVC:
    return SVC(break_ties=True, **settings)


def _svm_answers(fold: Fold, grid: Sequence[Settings], common: Settings) -> Iterator[Labels]:
    """Compute each kernel matrix once for all C, and the radial ones from the linear one."""
    products, test_products = fold.train @ fold.train.T, fold.test @ fold.train.T
    norms, test_norms = products.diagonal(), np.square(fold.test).sum(axis=1)
    distances = norms[:, None] + norms - 2 * products
    test_distances = test_norms[:, None] + norms - 2 * test_products
    computed: float | None = None
    kernel = test_kernel = products
    for settings in grid:
        if settings["kernel"] == "linear":
            kernel, test_kernel = products, test_products
        elif settings["gamma"] != computed:
            computed = settings["gamma"]
            kernel = np.exp(-computed * distances)
            test_kernel = np.exp(-computed * test_distances)
        model = _svm(kernel="precomputed", C=settings["C"], **common)
        yield model.fit(kernel, fold.labels).predict(test_kernel)


def _svm_grid(rows: int, width: int) -> tuple[Settings, ...]:
    # Dot products grow with the number of features, so C and gamma are divided by it.
    linear = ({"kernel": "linear", "C": c / width} for c in (0.05, 0.15, 0.5, 1.5, 5.0, 50.0))
    radial = (
        {"kernel": "rbf", "gamma": gamma / width, "C": c}
        for gamma in (0.1, 0.3, 1.0)
        for c in (0.3, 1.0, 3.0, 10.0, 30.0)
    )
    return (*linear, *radial)


def _linear(**settings: Any) -> LogisticRegression:
    return LogisticRegression(max_iter=1000, **settings)


def _linear_answers(fold: Fold, grid: Sequence[Settings], common: Settings) -> Iterator[Labels]:
    """Start each fit from the previous one, which had a stronger penalty."""
    train, test = fold.train.astype(np.float32), fold.test.astype(np.float32)
    model = _linear(warm_start=True, **common)
    for settings in grid:
        yield model.set_params(**settings).fit(train, fold.labels).predict(test)


def _ridge_answers(fold: Fold, grid: Sequence[Settings], common: Settings) -> Iterator[Labels]:
    """Solve for all penalties with one eigendecomposition, of the smaller Gram matrix."""
    weights = compute_sample_weight(common.get("class_weight"), fold.labels)
    targets = 2.0 * (fold.labels[:, None] == np.unique(fold.labels)) - 1
    mean_x, mean_y = (np.average(a, axis=0, weights=weights) for a in (fold.train, targets))
    root = np.sqrt(weights)[:, None]
    x, y = root * (fold.train - mean_x), root * (targets - mean_y)
    wide = x.shape[0] < x.shape[1]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    left = (fold.test - mean_x) @ (x.T @ vectors if wide else vectors)
    right = vectors.T @ (y if wide else x.T @ y)
    for settings in grid:
        scores = (left / (values + settings["alpha"])) @ right + mean_y
        yield np.unique(fold.labels)[scores.argmax(axis=1)]


def _mlp(**settings: Any) -> MLPClassifier:
    # Few iterations and a strong penalty: on features of 1,600 photographs of cats, more iterations
    # gained nothing, and without the penalty the probabilities were overconfident.
    return MLPClassifier(alpha=1.0, max_iter=60, **settings)


def _knn(**settings: Any) -> KNeighborsClassifier:
    return KNeighborsClassifier(weights="distance", algorithm="brute", **settings)


def _each_alone(
    create: Callable[..., Any],
) -> Callable[[Fold, Sequence[Settings], Settings], Iterator[Labels]]:
    def answers(fold: Fold, grid: Sequence[Settings], common: Settings) -> Iterator[Labels]:
        for settings in grid:
            yield create(**settings, **common).fit(fold.train, fold.labels).predict(fold.test)

    return answers


def _steps(name: str, first: float, last: float) -> Callable[[int, int], tuple[Settings, ...]]:
    """Return a grid of one setting: half decades from one power of ten to another."""
    count = 1 + round(abs(last - first) * 2)
    return lambda rows, width: tuple(
        {name: float(value)} for value in np.logspace(first, last, count)
    )


FAMILIES: Mapping[Classifier, Family] = {
    Classifier.SVM: Family(grid=_svm_grid, create=_svm, answers=_svm_answers),
    Classifier.LINEAR: Family(grid=_steps("C", -4, 1), create=_linear, answers=_linear_answers),
    Classifier.RIDGE: Family(
        grid=_steps("alpha", 6, -1), create=RidgeClassifier, answers=_ridge_answers
    ),
    Classifier.MLP: Family(
        grid=lambda rows, width: tuple({"hidden_layer_sizes": (w,)} for w in (32, 128, 512)),
        create=_mlp,
        answers=_each_alone(_mlp),
        takes_class_weight=False,
        takes_seed=True,
        calibrated=False,
    ),
    Classifier.KNN: Family(
        grid=lambda rows, width: tuple(
            {"n_neighbors": k} for k in (50, 30, 20, 10, 5, 3, 1) if k <= max(rows, 1)
        ),
        create=_knn,
        answers=_each_alone(_knn),
        takes_class_weight=False,
        calibrated=False,
    ),
}
