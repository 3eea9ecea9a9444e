"""Gradients of log-odds agree with the formula for a softmax."""

import numpy as np
import pytest

from transferkit.classifiers.gradients import log_odds, log_odds_gradient


def test_log_odds_gradient__follows_the_formula():
    random = np.random.default_rng(0)
    weights, row = random.normal(size=(7, 4)), random.normal(size=7)

    def softmax(rows):
        e = np.exp(rows @ weights)
        return e / e.sum(axis=1, keepdims=True)

    # d log(p0 / (1 - p0)) = w0 - the mean of the other w, weighted by their probabilities
    p = softmax(row[None])[0]
    expected = weights[:, 0] - weights[:, 1:] @ (p[1:] / p[1:].sum())
    found = log_odds_gradient(softmax, row, np.array([1.0, 0, 0, 0]))

    np.testing.assert_allclose(found, expected, rtol=1e-6)
    certain = log_odds(np.array([[1 - 1e-20, 1e-20], [1.0, 0.0]]))
    assert certain[0, 0] == pytest.approx(46.05, abs=0.01)
    assert np.isfinite(certain).all()
