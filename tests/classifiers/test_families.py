"""Families of classifiers: their fast paths predict what the estimators do."""

import numpy as np
import pytest
from point_clouds import clouds
from sklearn.preprocessing import StandardScaler

from transferkit.classifiers import Classifier
from transferkit.classifiers.families import FAMILIES, Fold


def fold(classes: int, width: int) -> Fold:
    features, labels = clouds(classes=classes, width=width)
    train = np.arange(len(labels)) % 4 != 0
    scaler = StandardScaler().fit(features[train])
    rows = scaler.transform(features)
    return Fold(rows[train], labels[train], rows[~train])


@pytest.mark.parametrize("width", [6, 150])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("kind", [Classifier.SVM, Classifier.LINEAR, Classifier.RIDGE])
def test_answers__are_those_of_the_estimator_itself(kind, classes, width, balanced):
    family, part = FAMILIES[kind], fold(classes, width)
    if balanced:  # drop most of a class, so that weights matter
        kept = (part.labels != 0) | (np.arange(len(part.labels)) % 5 == 0)
        part = Fold(part.train[kept], part.labels[kept], part.test)
    common = {"class_weight": "balanced"} if balanced else {}
    grid = family.grid(len(part.labels), width)

    answers = list(family.answers(part, grid, common))

    differing = 0
    for settings, given in zip(grid, answers, strict=True):
        alone = family.create(**settings, **common).fit(part.train, part.labels)
        differing += int((alone.predict(part.test) != given).sum())
    # Logistic regression stops within its tolerance of the same optimum.
    allowed = 0.03 * len(grid) * len(part.test) if kind is Classifier.LINEAR else 0
    assert differing <= allowed
    assert len(np.unique(np.concatenate(answers))) == classes
