"""Confidence intervals of accuracies, and of their differences between repeated runs.

Runs are repeated with several seeds and evaluated on the same images. A table (S, N) bool says
whether the run with seed s classified image i correctly. Other images of the same kind would give
another accuracy, and so would other seeds; the intervals account for both. They do not account for
the choice of training images.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Correct = NDArray[np.bool_]

LEVEL = 0.95

METHOD = (
    "accuracy: the mean over seeds, with Wilson's interval for other images and, where there are "
    "several seeds, other seeds; difference: to the best, paired by image; each interval covers "
    "95 % by itself"
)
"""Explanation of the intervals, shown with the figures."""

_NORMAL = 1.959964
"""The normal quantile at (1 + LEVEL) / 2."""

_HALVES = np.array([1.0, -1.0, 0.0, 0.0])
"""Differences of the four outcomes of which half an image each is added."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: The figure.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


def wilson_interval(correct: int, count: int) -> dict[str, Any]:
    """Return the 95 % interval of an accuracy, as JSON values.

    The interval covers the accuracy of the same model on other images of the same kind. It says
    nothing about other seeds or other training images.

    Args:
        correct: Number of correct predictions.
        count: Number of predictions, 1 or more.
    """
    low, high = _wilson(correct / count, count, _NORMAL)
    return {"low": low, "high": high, "level": LEVEL, "method": "wilson"}


def accuracy(correct: Correct) -> Estimate:
    """Return the mean accuracy over seeds and images.

    The variance is that of a crossed design with random images and random seeds: the variance of
    the images' means plus that of the seeds' means. Both contain the interaction of image and seed,
    so the sum errs on the safe side, like the bootstrap of Owen, Annals of Applied Statistics 1,
    2007. The interval is Wilson's, for the number of images at which a single run would have this
    variance, with Student's quantile in place of the normal one if seeds vary (Korn and Graubard,
    Survey Methodology 24, 1998). With one seed it equals `wilson_interval` and says nothing about
    other seeds.

    Args:
        correct: (S, N) with S, N > 0.
    """
    seeds, images = correct.shape
    share = float(correct.mean())
    of_images = _variance_of_images(correct.mean(axis=0))
    of_seeds = _variance_of_seeds(correct)
    variance = of_images + of_seeds
    # If all or none are correct, nothing varies, and the number of images is the effective one.
    effective = share * (1 - share) / variance if variance else images
    quantile = _quantile([(of_images, images - 1), (of_seeds, seeds - 1)])
    return Estimate(share, *_wilson(share, effective, quantile))


def difference(one: Correct, other: Correct) -> Estimate:
    """Return how much more accurate `one` is than `other`, paired by image.

    The variance is that of the images' differences, averaged over seeds, plus that of the seeds of
    each side as in `accuracy`. As for matched proportions, half an image of each of the four
    outcomes is added first (Agresti and Min, Statistics in Medicine 24, 2005), so that the interval
    has a width even if the two never differ.

    Args:
        one: (S, N).
        other: (T, N), for the same images in the same order.
    """
    images = one.shape[1]
    by_image = one.mean(axis=0) - other.mean(axis=0)
    padded = np.concatenate([by_image, _HALVES])
    weights = np.concatenate([np.ones(images), np.full(len(_HALVES), 0.5)])
    centre = float(np.average(padded, weights=weights))
    of_images = float(np.average((padded - centre) ** 2, weights=weights) / weights.sum())
    parts = [
        (of_images, images - 1),
        (_variance_of_seeds(one), len(one) - 1),
        (_variance_of_seeds(other), len(other) - 1),
    ]
    reach = _quantile(parts) * math.sqrt(sum(variance for variance, _ in parts))
    return Estimate(float(by_image.mean()), centre - reach, centre + reach)


def _wilson(share: float, count: float, quantile: float) -> tuple[float, float]:
    """Return the lower and upper end of a proportion's interval: Wilson, JASA 22, 1927.

    Args:
        share: The proportion, 0..1.
        count: Number of observations; an effective number may be fractional.
        quantile: Quantile of the standardised proportion at (1 + LEVEL) / 2.
    """
    spread = quantile * quantile / count
    centre = share + spread / 2
    reach = quantile * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    low, high = ((centre + side * reach) / (1 + spread) for side in (-1, 1))
    return max(low, 0.0), min(high, 1.0)  # rounding may leave 0..1


def _variance_of_images(means: NDArray[np.floating[Any]]) -> float:
    """Return the part of the mean's variance that comes from the choice of N images."""
    return float(means.var()) / len(means)


def _variance_of_seeds(correct: Correct) -> float:
    """Return the part of the mean's variance that comes from the choice of S seeds."""
    seeds = len(correct)
    return float(correct.mean(axis=1).var(ddof=1)) / seeds if seeds > 1 else 0.0


def _quantile(parts: list[tuple[float, int]]) -> float:
    """Return the quantile for a sum of variances, some with few degrees of freedom.

    It is Student's, with the degrees of freedom of Satterthwaite, Biometrics Bulletin 2, 1946, or
    the normal one if only the images vary.

    Args:
        parts: (variance, degrees of freedom) of the images, then of the seeds.
    """
    if not any(variance for variance, _ in parts[1:]):
        return _NORMAL
    from scipy.special import stdtrit

    total = sum(variance for variance, _ in parts)
    freedom = total**2 / sum(v * v / max(free, 1) for v, free in parts)
    return float(stdtrit(freedom, (1 + LEVEL) / 2))
