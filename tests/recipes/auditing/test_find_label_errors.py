"""Wrong labels are found by models that have not seen them; so are confused and small classes."""

import numpy as np
import pytest
from made_dataset import made_dataset
from notices import Notices
from point_clouds import clouds

from transferkit.recipes.auditing.find_label_errors import (
    find_confused_classes,
    find_label_errors,
    find_small_classes,
    judge_labels,
    reason_against_folds,
)
from transferkit.reporter import SILENT

NAMES = ("ants", "bees", "cats")


def judged(features, labels, **about):
    dataset = made_dataset(labels, class_names=NAMES, **about)
    return dataset, judge_labels(dataset, features.astype(np.float32), 0, SILENT)


def test_find_label_errors__names_the_swapped_labels_first():
    features, labels = clouds(spread=0.3)
    swapped = {5: 1, 50: 2, 100: 0}
    labels[list(swapped)] = list(swapped.values())
    findings = find_label_errors(*judged(features, labels)).findings

    assert {int(f.path[5:8]): NAMES.index(f.suggested_label) for f in findings} == {
        **{5: 0, 50: 1, 100: 2},
    }
    assert all(f.score > 0.9 for f in findings)
    assert "looks like" in findings[0].detail


def test_find_label_errors__leaves_copies_across_labels_to_the_copies():
    features, labels = clouds(spread=0.3)
    labels[5] = 1
    features[6], copies = features[5], np.arange(len(labels))
    copies[6] = 5
    findings = find_label_errors(*judged(features, labels, copies=copies)).findings

    assert findings == ()


def test_find_confused_classes__names_the_pair_that_cannot_be_told_apart():
    features, labels = clouds(spread=0.3)
    features[40:80] = features[:40] + 0.01  # bees look like ants
    (finding,) = find_confused_classes(*judged(features, labels)).findings

    assert finding.path == ""
    assert finding.detail.startswith("ants and bees: ")
    assert finding.score > 0.3


def test_find_confused_classes__names_none_that_are_told_apart():
    assert find_confused_classes(*judged(*clouds(spread=0.3))).findings == ()


@pytest.mark.parametrize(
    ("counts", "small"),
    [
        ((20, 20), []),
        ((1, 20), ["ants: 1 image"]),
        ((19, 20), ["ants: 19 images"]),
        ((40, 500, 500), ["ants: 40 images"]),
    ],
)
def test_find_small_classes__names_those_below_20_or_a_tenth_of_the_median(counts, small):
    labels = np.repeat(np.arange(len(counts)), counts)
    dataset = made_dataset(labels, class_names=NAMES[: len(counts)])
    findings = find_small_classes(dataset).findings

    assert [finding.detail for finding in findings] == small


def test_find_small_classes__counts_copies_once():
    dataset = made_dataset([0] * 30 + [1] * 30, copies=[*[0] * 20, *range(20, 60)])

    assert [f.detail for f in find_small_classes(dataset).findings] == ["ants: 11 images"]


@pytest.mark.parametrize(
    ("labels", "class_names", "reason"),
    [
        ([0] * 10, ("ants",), "there is one class only"),
        ([0, 1], ("ants", "bees"), "every class has one training image"),
    ],
)
def test_judge_labels__tells_why_it_cannot(labels, class_names, reason):
    dataset, notices = made_dataset(labels, class_names=class_names), Notices()

    assert judge_labels(dataset, np.ones((len(labels), 2), np.float32), 0, notices) is None
    assert reason in notices.all[0]
    assert reason in reason_against_folds(dataset)
    assert find_label_errors(dataset, None).findings == ()
