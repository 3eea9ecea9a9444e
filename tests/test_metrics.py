"""Metrics, compared with scikit-learn or with values computed by hand."""

import numpy as np
import pytest
import sklearn.metrics

from transferkit.intervals import wilson_interval
from transferkit.metrics import (
    confused_pairs,
    confusion,
    doubtful_labels,
    expected_calibration_error,
    log_loss,
    majority_baseline,
    per_class,
    reliability,
    summarize,
    top_k_accuracy,
)

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 7, 200)
PROBABILITIES = RANDOM.dirichlet(np.ones(7), 200)
PREDICTED = PROBABILITIES.argmax(axis=1)
NAMES = [f"c{i}" for i in range(7)]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_accuracy__agrees_with_scikit_learn(k):
    expected = sklearn.metrics.top_k_accuracy_score(LABELS, PROBABILITIES, k=k)

    assert top_k_accuracy(LABELS, PROBABILITIES, k) == pytest.approx(expected)


def test_top_k_accuracy__is_one_if_k_is_at_least_the_number_of_classes():
    assert top_k_accuracy(LABELS, PROBABILITIES, 9) == 1.0


def test_log_loss__agrees_with_scikit_learn():
    expected = sklearn.metrics.log_loss(LABELS, PROBABILITIES)

    assert log_loss(LABELS, PROBABILITIES) == pytest.approx(expected)


def test_log_loss__of_a_certain_mistake_is_finite():
    assert log_loss(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(15.94, abs=0.01)


def test_per_class__agrees_with_scikit_learn():
    table = per_class(LABELS, PROBABILITIES, NAMES)
    expected = sklearn.metrics.precision_recall_fscore_support(LABELS, PREDICTED)

    for i, name in enumerate(NAMES):
        got = [table[name][key] for key in ("precision", "recall", "f1", "n")]
        assert got == pytest.approx([float(column[i]) for column in expected])


def test_expected_calibration_error__agrees_with_a_value_by_hand():
    """Half the rows at 0.8, one of two right: |0.5 - 0.8|; half at 0.6, both right: |1 - 0.6|."""
    labels = np.array([0, 1, 0, 0])
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]])

    assert expected_calibration_error(labels, probabilities) == pytest.approx(0.35)


def test_summarize__holds_every_metric():
    summary = summarize(LABELS, PROBABILITIES, NAMES)

    assert list(summary) == [
        "accuracy",
        "accuracy_interval",
        "top5",
        "macro_f1",
        "log_loss",
        "ece",
        "n",
        "without_images",
        "per_class",
    ]
    assert summary["n"] == 200
    assert summary["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(LABELS, PREDICTED, average="macro")
    )


def test_summarize__averages_over_the_classes_that_occur():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])

    assert summarize(np.array([0, 1]), probabilities, ["a", "b", "c"])["macro_f1"] == 1.0


def test_majority_baseline__answers_the_most_frequent_training_class():
    assert majority_baseline(np.array([0, 1, 1, 2]), np.array([2, 2, 1])) == 0.25


def test_summarize__has_the_interval_of_its_accuracy():
    metrics = summarize(LABELS, PROBABILITIES, NAMES)
    correct = int((PREDICTED == LABELS).sum())

    assert metrics["accuracy_interval"] == wilson_interval(correct, len(LABELS))


def test_reliability__adds_up_to_the_calibration_error():
    bins = reliability(LABELS, PROBABILITIES)
    gaps = [count * abs(right - sure) for sure, right, count in bins if count]

    assert len(bins) == 15
    assert sum(gaps) / 200 == pytest.approx(expected_calibration_error(LABELS, PROBABILITIES))
    assert sum(count for _, _, count in bins) == 200
    assert all(np.isnan(sure) and np.isnan(right) for sure, right, count in bins if not count)


def test_confusion__agrees_with_scikit_learn():
    expected = sklearn.metrics.confusion_matrix(LABELS, PREDICTED, labels=range(7))

    assert (confusion(LABELS, PROBABILITIES) == expected).all()


def test_doubtful_labels__agree_with_those_found_by_hand():
    """Rows 2 and 0 have 0.9 against 0.1 and 0.6 against 0.15; in row 3 the factor is below 3."""
    probabilities = np.array(
        [[0.15, 0.6, 0.25], [0.5, 0.4, 0.1], [0.0, 0.9, 0.1], [0.2, 0.2, 0.59]]
    )

    found = doubtful_labels(np.array([0, 0, 2, 0]), probabilities)

    assert [(row, best) for row, best, _ in found] == [(2, 1), (0, 1)]
    assert [doubt for _, _, doubt in found] == pytest.approx([0.9, 0.8])


def test_doubtful_labels__are_the_labels_that_were_swapped():
    """A model is accurate but underconfident, and 20 of 400 labels are swapped."""
    random = np.random.default_rng(3)
    true = random.integers(0, 4, 400)
    logits = random.normal(0, 1, (400, 4)) + 5 * np.eye(4)[true]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    swapped = random.permutation(400)[:20]
    labels = true.copy()
    labels[swapped] = (labels[swapped] + 1) % 4

    found = doubtful_labels(labels, probabilities)

    rows = [row for row, _, _ in found]
    assert len(set(swapped.tolist()) & set(rows)) >= 18
    assert len(found) < 30
    assert set(rows[:15]) <= set(swapped.tolist())
    assert all(suggested == true[row] for row, suggested, _ in found[:15])


def test_confused_pairs__count_both_directions():
    matrix = np.array([[8, 2, 0], [4, 6, 0], [1, 0, 4]])

    assert confused_pairs(matrix) == ((0, 1, 6, 6 / 20), (0, 2, 1, 1 / 15))
