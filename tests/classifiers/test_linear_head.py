"""A linear head computes what logistic regression on scaled features does."""

import numpy as np
import pytest
from point_clouds import clouds
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from transferkit.classifiers.linear_head import fit_linear_head


@pytest.mark.parametrize("known", [(0, 1, 2), (0, 2, 3, 5), (1, 3)])
def test_fit_linear_head__gives_the_probabilities_of_logistic_regression(known):
    features, labels = clouds(count=30, classes=len(known), width=6, spread=0.9)
    features = (5 * features + 100).astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=300))
    model.fit(features.astype(np.float64), labels)

    weights, biases = fit_linear_head(features, np.array(known)[labels], 6)

    logits = features.astype(np.float64) @ weights.T + biases
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    found = shares / shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[:, known], model.predict_proba(features), atol=1e-3)
    assert (weights.dtype, weights.shape, biases.shape) == (np.float32, (6, 6), (6,))


def test_fit_linear_head__takes_a_feature_that_never_varies():
    features, labels = clouds(count=30, classes=3, width=6, spread=0.9)
    features[:, 2] = 7

    weights, biases = fit_linear_head(features.astype(np.float32), labels, 3)

    assert np.isfinite(weights).all()
    assert np.isfinite(biases).all()
    assert ((features @ weights.T + biases).argmax(axis=1) == labels).mean() > 0.8
