"""Calibration: the temperature that was hidden is found, and no row is measured with its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import simulate, softmax

from transferkit.calibration import at_temperature, calibrate, fit_temperature
from transferkit.metrics import expected_calibration_error, log_loss


def alone(count):
    return np.arange(count)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_fit_temperature__finds_the_temperature_that_was_hidden(temperature):
    labels, logits = simulate(20_000, seed=0)
    hidden = softmax(logits * temperature).astype(np.float32)

    assert fit_temperature(labels, hidden) == pytest.approx(temperature, rel=0.03)


def test_fit_temperature__of_rows_without_a_mistake_promises_no_certainty():
    labels = np.zeros(20, dtype=np.int64)
    probabilities = np.tile([0.7, 0.2, 0.1], (20, 1))

    confidence = at_temperature(probabilities, fit_temperature(labels, probabilities))[:, 0]

    assert confidence == pytest.approx(21 / 22, abs=0.02)


@given(
    seed=st.integers(0, 1000),
    temperature=st.floats(0.04, 25),
    sharpness=st.floats(0.01, 100),
)
def test_at_temperature__keeps_the_order_of_the_classes(seed, temperature, sharpness):
    _, logits = simulate(20, seed)
    before = softmax(logits * sharpness).astype(np.float32)

    after = at_temperature(before, temperature)

    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-5)
    rows = np.arange(20)
    assert (after[rows, before.argmax(axis=1)] == after.max(axis=1)).all()
    assert (np.diff(np.take_along_axis(after, before.argsort(axis=1), axis=1)) >= 0).all()


def test_at_temperature__one_changes_nothing():
    probabilities = softmax(simulate(20, seed=0)[1]).astype(np.float32)

    np.testing.assert_allclose(at_temperature(probabilities, 1.0), probabilities, rtol=1e-5)


def test_at_temperature__takes_certain_rows():
    certain = np.array([[1, 0, 0]], dtype=np.float32)

    assert at_temperature(certain, 0.1)[0].tolist() == [1, 0, 0]
    assert 0.9 < at_temperature(certain, 30.0)[0, 0] < 1


def test_calibrate__makes_confidence_equal_accuracy():
    labels, logits = simulate(3000, seed=1)
    before = softmax(logits / 3).astype(np.float32)

    after = calibrate(labels, before, alone(3000), seed=0)

    assert after.temperature == pytest.approx(1 / 3, rel=0.05)
    assert expected_calibration_error(labels, before) > 0.15
    assert expected_calibration_error(labels, after.probabilities) < 0.03
    assert log_loss(labels, after.probabilities) < log_loss(labels, before)
    assert (after.probabilities.argmax(axis=1) == before.argmax(axis=1)).all()


def test_calibrate__measures_no_row_with_a_temperature_it_helped_to_fit():
    labels, logits = simulate(100, seed=2)
    before = softmax(logits / 3).astype(np.float32)
    together = np.arange(100) // 2
    changed = labels.copy()
    changed[:2] = (labels[:2] + 1) % 5

    one, other = (calibrate(given, before, together, seed=0) for given in (labels, changed))

    np.testing.assert_array_equal(one.probabilities[:2], other.probabilities[:2])
    assert not np.array_equal(one.probabilities, other.probabilities)
    assert one.temperature != other.temperature


def test_calibrate__leaves_probabilities_alone_that_it_cannot_improve():
    labels, logits = simulate(300, seed=3)
    best = fit_temperature(labels, softmax(logits))
    before = softmax(logits / best).astype(np.float32)

    after = calibrate(labels, before, alone(300), seed=0)

    assert (after.temperature, after.folds) == (1.0, 0)
    np.testing.assert_array_equal(after.probabilities, before)


@pytest.mark.parametrize("together", [[0], [4, 4]])
def test_calibrate__needs_two_independent_rows(together):
    before = np.tile(np.float32([0.6, 0.4]), (len(together), 1))

    after = calibrate(np.zeros(len(together), dtype=np.int64), before, np.array(together), seed=0)

    assert after.temperature == 1.0
    np.testing.assert_array_equal(after.probabilities, before)


def test_calibrate__two_rows_stay_finite():
    before = np.float32([[0.6, 0.4], [0.4, 0.6]])

    after = calibrate(np.array([0, 1]), before, alone(2), seed=0)

    assert np.isfinite(after.probabilities).all()
    assert 1 / 30 <= after.temperature <= 30
