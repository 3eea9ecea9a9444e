"""Fitting classifiers: the choice of settings, calibration, copies and class weights."""

import numpy as np
import pytest
from point_clouds import clouds
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from transferkit.classifiers import Classifier
from transferkit.classifiers.fitting import fit_classifier
from transferkit.errors import DataError, OptionError


@pytest.mark.parametrize("kind", Classifier)
def test_fit__chooses_the_best_of_the_grid_reproducibly(kind):
    features, labels = clouds()
    fitted = fit_classifier(kind, features, labels, seed=0)
    again = fit_classifier(kind, features, labels, seed=0)
    accuracies = [accuracy for _, accuracy in fitted.tried]

    assert fitted.correct / fitted.searched == max(accuracies)
    first_best = accuracies.index(max(accuracies))
    assert fitted.settings == fitted.tried[first_best][0]
    assert (fitted.searched, fitted.folds) == (len(labels), 5)
    probabilities = fitted.estimator.predict_proba(features)
    assert np.array_equal(probabilities, again.estimator.predict_proba(features))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.6


def test_fit__has_the_accuracy_of_the_pipeline_in_the_same_folds():
    features, labels = clouds()
    fitted = fit_classifier(Classifier.LINEAR, features, labels, seed=3)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, **fitted.settings))
    correct = 0
    for train, test in StratifiedKFold(5, shuffle=True, random_state=3).split(features, labels):
        model = pipeline.fit(features[train], labels[train])
        correct += int((model.predict(features[test]) == labels[test]).sum())

    assert abs(fitted.correct - correct) <= 1


@pytest.mark.parametrize("kind", [Classifier.SVM, Classifier.LINEAR, Classifier.RIDGE])
def test_fit__calibrates_probabilities(kind):
    features, labels = clouds(count=120)
    new, new_labels = clouds(count=120)  # new points around the same centres
    fitted = fit_classifier(kind, features, labels, seed=0)
    probabilities = fitted.estimator.predict_proba(new)

    confidence = probabilities.max(axis=1).mean()
    accuracy = (probabilities.argmax(axis=1) == new_labels).mean()
    assert abs(confidence - accuracy) < 0.06
    assert log_loss(new_labels, probabilities) < 0.75 * np.log(3)


def test_fit__keeps_copies_on_one_side_of_a_fold():
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 8))
    labels = random.integers(0, 2, 60)  # nothing can be learned except the copies
    features, labels = np.tile(rows, (3, 1)), np.tile(labels, 3)
    groups = np.tile(np.arange(60), 3)

    leaking = fit_classifier(Classifier.KNN, features, labels, seed=0)
    honest = fit_classifier(Classifier.KNN, features, labels, seed=0, copies=groups)

    assert leaking.correct / leaking.searched > 0.9
    assert honest.correct / honest.searched < 0.7


def test_fit__raises_the_recall_of_a_rare_class_with_balanced_weights():
    features, labels = clouds(count=100, classes=2, spread=2.5)
    kept = (labels == 0) | (np.arange(200) % 10 == 0)
    features, labels = features[kept], labels[kept]
    recall = {}
    for balanced in (False, True):
        fitted = fit_classifier(Classifier.RIDGE, features, labels, seed=0, balanced=balanced)
        predicted = fitted.estimator.predict_proba(features).argmax(axis=1)
        recall[balanced] = (predicted[labels == 1] == 1).mean()

    assert recall[True] > recall[False] + 0.2


@pytest.mark.parametrize("kind", [Classifier.MLP, Classifier.KNN])
def test_fit__names_the_classifiers_that_weight_classes(kind):
    with pytest.raises(OptionError, match="does not weight classes; take svm, linear, ridge"):
        fit_classifier(kind, *clouds(), seed=0, balanced=True)


def test_fit__uses_fewer_folds_for_few_images():
    features, labels = clouds(count=3)

    assert fit_classifier(Classifier.SVM, features, labels, seed=0).folds == 3
    with pytest.raises(DataError, match="every class has one training image, copies apart"):
        fit_classifier(Classifier.SVM, features, labels, seed=0, copies=labels)


@pytest.mark.parametrize("kind", list(Classifier))
def test_fit__trains_on_a_class_with_one_image_in_every_fold(kind):
    features, labels = clouds(count=8)

    fitted = fit_classifier(kind, features[7:], labels[7:], seed=0)

    assert fitted.searched == len(labels[7:]) - 1
    assert fitted.estimator.predict_proba(features).shape == (len(labels), 3)


@pytest.mark.parametrize("kind", [kind for kind in Classifier if kind is not Classifier.MLP])
def test_fit__keeps_groups_on_one_side_of_every_fold(kind):
    """Rows of a group share a random label, which only a row of the same group gives away."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    centres = random.normal(size=(40, 64))
    features = (centres[groups] + 0.01 * random.normal(size=(400, 64))).astype(np.float32)
    labels = random.integers(0, 2, 40)[groups]

    leaking = fit_classifier(kind, features, labels, seed=0)
    honest = fit_classifier(kind, features, labels, seed=0, groups=groups)

    # At chance, the best of the settings is right about 40 groups in the way of coins.
    assert honest.correct / honest.searched < 0.75
    assert leaking.correct / leaking.searched > 0.95


def test_fit__keeps_a_small_class_with_copies_in_every_training_part():
    features, labels = clouds(count=10)
    features, labels, groups = features[7:], labels[7:], np.arange(23)  # 3 of class 0
    groups[1] = groups[0]
    fitted = fit_classifier(Classifier.RIDGE, features, labels, seed=0, copies=groups)

    assert fitted.folds == 2
    assert fitted.estimator.predict_proba(features).shape == (23, 3)


@pytest.mark.parametrize("count", [51, 53, 200])
def test_fit__searches_on_a_sample_of_each_class_of_many_rows(monkeypatch, count):
    monkeypatch.setattr("transferkit.classifiers.fitting.SEARCH_ROWS", 50)
    features, labels = clouds(count=count, classes=4)
    features, labels = (
        features[: 3 * count + 6],
        labels[: 3 * count + 6],
    )  # 6 rows of the last class
    copies = np.arange(len(labels)) // 2
    for groups in (None, copies):
        fitted = fit_classifier(Classifier.KNN, features, labels, seed=0, copies=groups)

        assert 40 <= fitted.searched <= 60
        assert fitted.folds == (5 if groups is None else 3)


def test_fit__refuses_features_that_are_not_finite():
    features, labels = clouds()
    features[3, 2] = np.inf

    with pytest.raises(DataError, match="not finite numbers; try --precision fp32"):
        fit_classifier(Classifier.LINEAR, features, labels, seed=0)


@pytest.mark.parametrize("kind", Classifier)
def test_fit__is_the_same_where_classes_have_no_training_images(kind):
    features, labels = clouds(classes=3)
    without_gaps = fit_classifier(kind, features, labels, seed=0).estimator

    with_gaps = fit_classifier(kind, features, np.array([1, 4, 5])[labels], seed=0).estimator

    assert with_gaps.classes_.tolist() == [1, 4, 5]
    expected = without_gaps.predict_proba(features)
    np.testing.assert_allclose(with_gaps.predict_proba(features), expected, atol=1e-6)
