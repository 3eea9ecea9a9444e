"""Probabilities of rows by models that have not seen them."""

import tracemalloc

import numpy as np
from point_clouds import clouds

from transferkit.classifiers.held_out import held_out_probabilities


def test_held_out_probabilities__are_of_models_that_have_not_seen_a_copy():
    """Two copies have a wrong label and a mark of their own, by which a model knows them again."""
    features, labels = clouds(spread=0.3)
    features[6] = features[5]
    marked = np.column_stack([features, np.isin(np.arange(len(labels)), (5, 6))])
    labels[[5, 6]], copies = 1, np.arange(len(labels))
    copies[6] = 5
    seen = held_out_probabilities(marked, labels, seed=1)
    unseen = held_out_probabilities(marked, labels, seed=1, copies=copies)

    assert seen[[5, 6]].argmax(axis=1).tolist() == [1, 1]
    assert unseen[[5, 6]].argmax(axis=1).tolist() == [0, 0]


def test_held_out_probabilities__are_calibrated():
    features, labels = clouds(count=200)
    probabilities = held_out_probabilities(features, labels, seed=0)
    confidence = probabilities.max(axis=1).mean()

    assert abs(confidence - (probabilities.argmax(axis=1) == labels).mean()) < 0.04
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_held_out_probabilities__of_the_only_image_of_a_class_are_unknown():
    features, labels = clouds()
    labels[7] = 3
    unknown = np.isnan(held_out_probabilities(features, labels, seed=0))

    assert np.flatnonzero(unknown.any(axis=1)).tolist() == [7]
    assert unknown.shape == (120, 4)


def test_held_out_probabilities__need_little_memory_beside_the_features(monkeypatch):
    monkeypatch.setattr("transferkit.classifiers.held_out.available_cores", lambda: 1)
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 20_000)
    features = random.standard_normal((len(labels), 40), dtype=np.float32)
    features[np.arange(len(labels)), labels] += 3
    tracemalloc.start()
    held_out_probabilities(features, labels, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 2.5 * features.nbytes  # all in float64 would be twice that
