"""Confidence intervals of accuracies over seeds and images: known values and coverage."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from transferkit.intervals import accuracy, difference, wilson_interval

Z = 1.959964


def table(*rows: str) -> np.ndarray:
    """Return a table with one row per seed: 1 is correct, 0 is wrong."""
    return np.array([[letter == "1" for letter in row] for row in rows])


def drawn(rng, *, seeds: int, images: int, spread: float) -> np.ndarray:
    """Draw a table of images that differ in difficulty and seeds that differ in accuracy."""
    ease = rng.normal(1.0, 1.0, images) + rng.normal(0, spread, seeds)[:, None]
    return ease + rng.normal(0, 1.0, (seeds, images)) > 0


@pytest.mark.parametrize("row", ["1101", "1111", "0000", "10" * 30])
def test_accuracy__of_one_seed_has_wilsons_interval(row):
    found, known = accuracy(table(row)), wilson_interval(row.count("1"), len(row))

    assert found.value == row.count("1") / len(row)
    assert (found.low, found.high) == pytest.approx((known["low"], known["high"]))


def test_accuracy__of_seeds_that_agree_is_that_of_one():
    once, thrice = accuracy(table("110100")), accuracy(table(*["110100"] * 3))

    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def test_accuracy__is_wider_if_seeds_differ():
    # By hand: two seeds with accuracy 1 and 0 on 4 images, whose means do not vary. The variance is
    # (1/2) / 2 with 1 degree of freedom, for which Student's quantile is 12.706.
    found = accuracy(table("1111", "0000"))
    z, effective = 12.7062047, 0.25 / 0.25
    spread = z * z / effective
    reach = z * math.sqrt(0.25 / effective + spread / (4 * effective))

    assert found.value == 0.5
    assert found.low == pytest.approx((0.5 + spread / 2 - reach) / (1 + spread), abs=1e-6)


def test_accuracy__covers_the_truth_over_images_and_seeds():
    # 0.95 is expected, give or take 0.022 by chance. Wilson's interval of the mean ignores seeds
    # and falls short.
    rng = np.random.default_rng(0)
    spread = 0.2
    truth = NormalDist().cdf(1 / math.sqrt(2 + spread**2))
    samples = [drawn(rng, seeds=3, images=300, spread=spread) for _ in range(400)]
    found = [accuracy(sample) for sample in samples]
    plain = [wilson_interval(round(s.mean() * 300), 300) for s in samples]

    held = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.92 < held < 0.99
    assert np.mean([one["low"] <= truth <= one["high"] for one in plain]) < held - 0.01


def test_difference__of_one_seed_is_that_of_agresti_and_min():
    """By their formula: of 50 images, 10 are right only in one and 4 only in the other."""
    one = table("1" * 10 + "0" * 4 + "1" * 36)
    other = table("0" * 10 + "1" * 4 + "1" * 36)
    found = difference(one, other)
    b, c, n = 10.5, 4.5, 52
    reach = Z * math.sqrt(b + c - (b - c) ** 2 / n) / n

    assert found.value == pytest.approx(6 / 50)
    assert (found.low, found.high) == pytest.approx((6 / 52 - reach, 6 / 52 + reach))


def test_difference__of_equals_is_0_and_has_a_width():
    right = table("1" * 30, "1" * 30)
    found = difference(right, right)

    assert found.value == 0
    assert found.low == pytest.approx(-found.high)
    assert 0 < found.high < 0.1


def test_difference__pairs_images():
    """One is right on the other's images and six more: certain, although the intervals overlap."""
    one, other = table("1" * 36 + "0" * 14), table("1" * 30 + "0" * 20)

    assert difference(one, other).low > 0
    assert accuracy(one).low < accuracy(other).high


def test_difference__covers_the_truth_over_images_and_seeds():
    rng = np.random.default_rng(1)
    held = []
    for _ in range(400):
        ease = rng.normal(1.0, 1.0, 300)
        one, other = (
            ease + rng.normal(0, 0.2, 3)[:, None] + rng.normal(0, 1.0, (3, 300)) > 0
            for _ in range(2)
        )
        found = difference(one, other)
        held.append(found.low <= 0 <= found.high)

    assert 0.92 < np.mean(held) < 0.99


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    # Newcombe, Statistics in Medicine 1998, table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval__agrees_with_published_figures(correct, count, low, high):
    interval = wilson_interval(correct, count)

    assert interval["low"] == pytest.approx(low, abs=5e-5)
    assert interval["high"] == pytest.approx(high, abs=5e-5)
    assert (interval["level"], interval["method"]) == (0.95, "wilson")


def test_wilson_interval__of_everything_right_ends_at_one():
    assert wilson_interval(30, 30)["high"] == 1.0
    assert 0.85 < wilson_interval(30, 30)["low"] < 0.9
