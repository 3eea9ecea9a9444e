"""Confidence: thresholds and sets keep on new images what they promise."""

import json

import numpy as np
import pytest
from simulated import simulate, softmax

from transferkit.confidence import Answering, ConfidenceTable, risk_coverage
from transferkit.errors import OptionError

LABELS = np.array([0, 0, 0, 1, 1, 0])
PROBABILITIES = np.array(
    [[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.45, 0.55]], dtype=np.float64
)
TABLE = ConfidenceTable.measure(LABELS, PROBABILITIES)


def test_measure__counts_the_images_that_reach_each_confidence():
    assert TABLE.images == 6
    assert TABLE.answering == (
        Answering(0.9, 1, 1),
        Answering(0.8, 3, 3),
        Answering(0.7, 4, 4),
        Answering(0.6, 5, 4),
        Answering(0.55, 6, 4),
    )
    assert TABLE.label_probabilities == ((0.4, 1), (0.45, 2), (0.7, 3), (0.8, 5), (0.9, 6))


def test_measure__of_many_images_stays_small_and_exact():
    labels, logits = simulate(20_000, seed=0)
    probabilities = softmax(logits)

    table = ConfidenceTable.measure(labels, probabilities)

    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    assert len(table.answering) == len(table.label_probabilities) == 1000
    for one in table.answering[::100]:
        assert one.answered == (confidence >= one.threshold).sum()
        assert one.correct == (correct & (confidence >= one.threshold)).sum()
    assert table.answering[-1].answered == 20_000
    assert (
        table.set_threshold(0.95)
        <= np.sort(probabilities[np.arange(20_000), labels])[int(0.05 * 20_001) - 1]
    )


def test_threshold_for__answers_as_much_as_it_can():
    assert TABLE.threshold_for(0.9) == Answering(0.7, 4, 4)
    assert TABLE.threshold_for(0.75) == Answering(0.6, 5, 4)


def test_threshold_for__answers_as_far_down_as_was_measured():
    assert TABLE.threshold_for(0.6) == Answering(0.55, 6, 4)


def test_threshold_for__names_the_highest_accuracy_that_was_shown():
    with pytest.raises(OptionError, match=r"6 validation images .* of 0.95, the highest is 0.900"):
        TABLE.threshold_for(0.95)


def test_set_threshold__leaves_out_as_many_labels_as_allowed():
    assert TABLE.set_threshold(1 - 1 / 7) == 0.4
    assert TABLE.set_threshold(1 - 2 / 7) == 0.45
    assert TABLE.set_threshold(1 - 4 / 7) == 0.7  # 0.8 occurs twice


def test_set_threshold__names_the_highest_coverage():
    with pytest.raises(OptionError, match=r"6 validation images .* at most 0.857, got 0.9"):
        TABLE.set_threshold(0.9)


def test_set_threshold__of_equal_probabilities_puts_every_label_into_the_set():
    table = ConfidenceTable.measure(np.zeros(20, dtype=np.int64), np.tile([0.6, 0.4], (20, 1)))

    assert table.set_threshold(0.9) == 0.0


def splits(count, repeats=100):
    """Yield tables of one half of simulated images, and labels and probabilities of the other."""
    for seed in range(repeats):
        labels, logits = simulate(2 * count, seed)
        probabilities = softmax(logits)
        table = ConfidenceTable.measure(labels[:count], probabilities[:count])
        yield table, labels[count:], probabilities[count:]


def test_threshold_for__keeps_its_accuracy_on_new_images():
    accuracies, shares = [], []
    for table, labels, probabilities in splits(300):
        answered = probabilities.max(axis=1) >= table.threshold_for(0.9).threshold
        accuracies.append((probabilities.argmax(axis=1) == labels)[answered].mean())
        shares.append(answered.mean())

    assert 0.89 <= np.mean(accuracies) <= 0.93
    assert np.mean(shares) > 0.5


def test_set_threshold__keeps_its_coverage_on_new_images():
    covered = [
        (probabilities[np.arange(len(labels)), labels] >= table.set_threshold(0.95)).mean()
        for table, labels, probabilities in splits(300)
    ]

    assert 0.945 <= np.mean(covered) <= 0.96


def test_from_record__returns_the_table():
    text = json.dumps(TABLE.to_record())

    assert ConfidenceTable.from_record(json.loads(text)) == TABLE


@pytest.mark.parametrize(
    "record",
    [
        {},
        {**TABLE.to_record(), "answering": []},
        {**TABLE.to_record(), "answering": [{"threshold": 0.5}]},
        {**TABLE.to_record(), "answering": [{"threshold": 0.5, "answered": 0, "correct": 0}]},
        {**TABLE.to_record(), "label_probabilities": [0.5]},
        {**TABLE.to_record(), "images": None},
        {**TABLE.to_record(), "images": "many"},
    ],
)
def test_from_record__refuses_anything_else(record):
    with pytest.raises(ValueError, match=r"."):
        ConfidenceTable.from_record(record)


def test_risk_coverage__goes_from_all_images_to_the_surest():
    labels, logits = simulate(1000, seed=0)
    probabilities = softmax(logits)

    rows = risk_coverage(labels, probabilities)

    assert [row["share"] for row in rows] == [share / 100 for share in range(100, 0, -5)]
    assert rows[0]["accuracy"] == (probabilities.argmax(axis=1) == labels).mean()
    assert rows[10]["accuracy"] > rows[0]["accuracy"]
    surest = np.argsort(-probabilities.max(axis=1))[:500]
    right = probabilities[surest].argmax(axis=1) == labels[surest]
    assert rows[10]["accuracy"] == right.mean()
    assert rows[10]["accuracy_interval"]["low"] < right.mean()


def test_risk_coverage__of_few_images_names_each_share_once():
    rows = risk_coverage(LABELS, PROBABILITIES)

    assert [row["n"] for row in rows] == [6, 5, 4, 3, 1]
