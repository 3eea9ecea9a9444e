"""Classifiers converted to ONNX give the probabilities of the classifiers themselves."""

from itertools import product

import numpy as np
import onnx
import openvino
import pytest
from onnxruntime import InferenceSession
from point_clouds import clouds
from sklearn.calibration import CalibratedClassifierCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from transferkit.bundle import FeatureHead
from transferkit.classifiers import Classifier, conversion_to_onnx
from transferkit.classifiers.conversion_to_onnx import classifier_to_onnx
from transferkit.classifiers.families import FAMILIES
from transferkit.classifiers.fitting import fit_classifier
from transferkit.errors import EngineError
from transferkit.models.feature_extractor import Pool

CLOSE = {"rtol": 0, "atol": 1e-5}


def expected(classifier, rows, num_classes: int, temperature=1.0):
    head = FeatureHead(classifier, ("pooled",), Pool.AUTO, temperature)
    return head.predict_proba(rows, num_classes)


def converted(classifier, width: int, num_classes: int, temperature=1.0):
    """Return a function from features to the probabilities that onnxruntime computes."""
    model = classifier_to_onnx(classifier, width, num_classes, temperature)
    content = model.SerializeToString()
    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(["probabilities"], {"features": rows})[0]


def calibrated(estimator, features, labels):
    pipeline = make_pipeline(StandardScaler(), estimator)
    settings = {"method": "temperature", "cv": 3, "ensemble": False}
    return CalibratedClassifierCV(pipeline, **settings).fit(features, labels)


@pytest.mark.parametrize(
    ("known", "num_classes", "width", "spread"),
    [
        ((0, 1, 2), 3, 6, 0.9),
        ((0, 1), 2, 6, 0.9),
        ((0, 2, 3, 4), 6, 6, 0.9),
        ((1, 3), 4, 6, 0.9),
        (tuple(range(12)), 12, 512, 5.0),
    ],
    ids=["several", "binary", "missing", "binary-missing", "wide"],
)
@pytest.mark.parametrize("kind", Classifier)
def test_probabilities__are_those_of_the_classifier(kind, known, num_classes, width, spread):
    features, labels = clouds(count=15, classes=len(known), width=width, spread=spread)
    classifier = fit_classifier(kind, features, np.array(known)[labels], seed=0).estimator
    fresh = np.random.default_rng(1).normal(size=(300, width))
    rows = np.concatenate([features[::3], fresh]).astype(np.float32)

    run = converted(classifier, width, num_classes)

    found, wanted = run(rows), expected(classifier, rows, num_classes)
    assert found.dtype == np.float32
    assert found.shape == (len(rows), num_classes)
    np.testing.assert_allclose(found, wanted, **CLOSE)
    assert not np.delete(found, known, axis=1).any()
    for count in (1, 7):
        np.testing.assert_allclose(run(rows[-count:]), wanted[-count:], **CLOSE)
    # The rows differ in their probabilities, so equal ones are no accident.
    assert np.ptp(wanted, axis=0)[list(known)].min() > 0.05


@pytest.mark.parametrize("temperature", [0.2, 7.0])
@pytest.mark.parametrize("kind", Classifier)
def test_probabilities__at_a_temperature_are_those_of_the_head(kind, temperature):
    features, labels = clouds(count=15, classes=3, width=6, spread=0.9)
    classifier = fit_classifier(kind, features, np.array([0, 2, 3])[labels], seed=0).estimator
    rows = np.random.default_rng(1).normal(size=(300, 6)).astype(np.float32)

    found = converted(classifier, 6, 4, temperature)(rows)

    np.testing.assert_allclose(found, expected(classifier, rows, 4, temperature), **CLOSE)
    assert np.abs(found - expected(classifier, rows, 4)).max() > 0.1


@pytest.mark.parametrize("settings", [{"kernel": "linear"}, {"kernel": "rbf", "gamma": 0.1}])
def test_svm__is_the_same_on_both_sides_of_a_jump(settings):
    """Two rows as close as float32 allows, between which a pairwise decision changes its sign."""
    features, labels = clouds(classes=4)
    svm = FAMILIES[Classifier.SVM].create(C=1.0, **settings)
    classifier = calibrated(svm, features, labels)
    pipeline = classifier.calibrated_classifiers_[0].estimator

    def votes(rows):
        return np.rint(pipeline.decision_function(rows))  # the confidences add less than 1/3

    one, other = features.astype(np.float32)[:-1], features.astype(np.float32)[1:]
    differing = (votes(one) != votes(other)).any(axis=1)
    one, other = one[differing], other[differing]
    for _ in range(40):
        middle = (one + other) / 2
        beyond = (votes(middle) != votes(one)).any(axis=1)[:, None]
        one, other = np.where(beyond, one, middle), np.where(beyond, middle, other)
    rows = np.concatenate([one, other])
    wanted = expected(classifier, rows, 4)
    assert len(one) > 50
    assert np.abs(wanted[: len(one)] - wanted[len(one) :]).max(axis=1).min() > 1e-3

    np.testing.assert_allclose(converted(classifier, 6, 4)(rows), wanted, **CLOSE)


def test_knn__gives_a_training_row_the_shares_of_its_copies():
    """Every sign pattern three times: scaling leaves it exact, so that distances are exactly 0."""
    patterns = np.array(list(product((-1.0, 1.0), repeat=4)))
    labels = np.random.default_rng(0).integers(0, 3, 3 * len(patterns))
    knn = FAMILIES[Classifier.KNN].create(n_neighbors=5)
    classifier = make_pipeline(StandardScaler(), knn).fit(np.repeat(patterns, 3, axis=0), labels)
    shares = np.eye(3)[labels].reshape(-1, 3, 3).mean(axis=1)
    rows = patterns.astype(np.float32)

    np.testing.assert_allclose(expected(classifier, rows, 3), shares, **CLOSE)
    np.testing.assert_allclose(converted(classifier, 4, 3)(rows), shares, **CLOSE)


@pytest.mark.parametrize("kind", Classifier)
def test_probabilities__of_features_that_are_not_finite_are_nan(kind):
    features, labels = clouds()
    classifier = fit_classifier(kind, features, labels, seed=0).estimator
    rows = features[:4].astype(np.float32)
    rows[1, 2], rows[2, 0], rows[3, 5] = np.nan, np.inf, -np.inf

    found = converted(classifier, 6, 4)(rows)

    assert np.isnan(found).all(axis=1).tolist() == [False, True, True, True]
    np.testing.assert_allclose(found, expected(classifier, rows, 4), **CLOSE)


@pytest.mark.parametrize("kind", Classifier)
def test_model__is_valid_and_declares_its_shapes_and_versions(kind):
    features, labels = clouds()
    classifier = fit_classifier(kind, features, labels, seed=0).estimator

    model = classifier_to_onnx(classifier, 6, 5)

    onnx.checker.check_model(model, full_check=True)
    [given], [returned] = model.graph.input, model.graph.output
    assert [(v.domain, v.version) for v in model.opset_import] == [("", 17), ("ai.onnx.ml", 3)]
    for value, name, width in ((given, "features", 6), (returned, "probabilities", 5)):
        first, second = value.type.tensor_type.shape.dim
        assert (value.name, first.dim_param, second.dim_value) == (name, "n", width)
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_model__is_refused_by_openvino_which_would_compute_it_in_float32():
    features, labels = clouds()
    classifier = fit_classifier(Classifier.SVM, features, labels, seed=0).estimator
    content = classifier_to_onnx(classifier, 6, 3).SerializeToString()

    with pytest.raises(RuntimeError, match="ArrayFeatureExtractor"):
        openvino.Core().read_model(content)


def fitted(estimator):
    return make_pipeline(StandardScaler(), estimator).fit(*clouds())


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: fitted(GaussianNB()), "of the type GaussianNB cannot be .* MLPClassifier, KNeigh"),
        (lambda: calibrated(GaussianNB(), *clouds()), "of the type GaussianNB .* expected SVC,"),
        (
            lambda: calibrated(SVC(kernel="poly"), *clouds()),
            "SVC with kernel='poly' cannot be converted to ONNX; expected 'rbf'",
        ),
        (
            lambda: calibrated(SVC(decision_function_shape="ovo"), *clouds()),
            "SVC with decision_function_shape='ovo'",
        ),
        (
            lambda: fitted(KNeighborsClassifier()),
            "KNeighborsClassifier with weights='uniform' .* expected 'distance'",
        ),
        (
            lambda: fitted(MLPClassifier(activation="tanh", solver="lbfgs")),
            "MLPClassifier with activation='tanh' .* expected 'relu'",
        ),
    ],
)
def test_conversion__refuses_what_it_does_not_know(create, message):
    with pytest.raises(EngineError, match=message):
        classifier_to_onnx(create(), 6, 3)


@pytest.mark.parametrize(("width", "num_classes"), [(5, 3), (6, 2)])
def test_conversion__refuses_other_features_or_classes(width, num_classes):
    features, labels = clouds()
    classifier = fit_classifier(Classifier.RIDGE, features, labels, seed=0).estimator

    with pytest.raises(EngineError, match=f"6 features and 3 .* got {width} .* {num_classes} "):
        classifier_to_onnx(classifier, width, num_classes)


def test_conversion__refuses_what_no_file_can_hold(monkeypatch):
    features, labels = clouds()
    classifier = fit_classifier(Classifier.KNN, features, labels, seed=0).estimator
    monkeypatch.setattr(conversion_to_onnx, "_LARGEST", features.nbytes - 1)

    with pytest.raises(EngineError, match="an ONNX file holds 2 GiB; train with --classifier lin"):
        classifier_to_onnx(classifier, 6, 3)
