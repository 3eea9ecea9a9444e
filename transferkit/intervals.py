"""Accuracies of runs that were repeated with other seeds and measured on the same images.

Each table is (S, N) bool: whether the run with seed s was right about image i. Other images of the
kind would give another accuracy, and so would other seeds; both go into the intervals. The training
images are taken as they are.
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
"""How it is computed, for readers of the figures."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval.

    Attributes:
        value: The figure.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def wilson_interval(correct: int, count: int) -> dict[str, Any]:
    """The 95 % interval of an accuracy, as JSON values: Wilson, JASA 1927.

    It says how far the same model's accuracy on other images of the kind may be, and nothing of
    other seeds or training images.

    Args:
        correct: Rows that were right.
        count: Rows in all, 1 or more.
    """
    z = 1.959964
    share, spread = correct / count, z * z / count
    centre = share + spread / 2
    reach = z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    # What rounding leaves outside 0..1 is cut off.
    low, high = ((centre + side * reach) / (1 + spread) for side in (-1, 1))
    return {"low": max(low, 0.0), "high": min(high, 1.0), "level": 0.95, "method": "wilson"}


def accuracy(correct: Correct) -> Estimate:
    """The mean accuracy over seeds and images.

    The variance is that of a crossed design with random images and random seeds: of the images'
    means and of the seeds' means. What image and seed do together is in both, which errs to the
    safe side, as the bootstrap of Owen, Annals of Applied Statistics 1, 2007, does. The interval
    is Wilson's with the number of images at which a single run would have that variance, and
    Student's quantile for the normal one where seeds vary (Korn and Graubard, Survey Methodology
    24, 1998). With one seed it is `wilson_interval`, and says nothing of other seeds.

    Args:
        correct: (S, N) with S, N > 0.
    """
    seeds, images = correct.shape
    share = float(correct.mean())
    of_images = _variance_of_images(correct.mean(axis=0))
    of_seeds = _variance_of_seeds(correct)
    variance = of_images + of_seeds
    # Where all are right, or all wrong, nothing varies: as many images as there are.
    effective = share * (1 - share) / variance if variance else images
    z = _quantile([(of_images, images - 1), (of_seeds, seeds - 1)])
    spread = z * z / effective
    centre = share + spread / 2
    reach = z * math.sqrt(share * (1 - share) / effective + spread / (4 * effective))
    low, high = ((centre + side * reach) / (1 + spread) for side in (-1, 1))
    return Estimate(share, max(low, 0.0), min(high, 1.0))


def difference(one: Correct, other: Correct) -> Estimate:
    """How much more accurate `one` is than `other`, paired by image.

    The variance is that of the images' differences, each the mean over seeds, with that of either
    side's seeds added as in `accuracy`. As for matched proportions, half an image of each of the
    four outcomes is added before (Agresti and Min, Statistics in Medicine 24, 2005), so that the
    interval keeps a width where the two never differ.

    Args:
        one: (S, N).
        other: (T, N), of the same images in the same order.
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


_NORMAL = 1.959964
_HALVES = np.array([1.0, -1.0, 0.0, 0.0])


def _variance_of_images(means: NDArray[np.floating[Any]]) -> float:
    """Of the mean of N images' values, as far as it comes from which images they are."""
    return float(means.var()) / len(means)


def _variance_of_seeds(correct: Correct) -> float:
    """Of the mean of S seeds' accuracies, as far as it comes from which seeds they are."""
    seeds = len(correct)
    return float(correct.mean(axis=1).var(ddof=1)) / seeds if seeds > 1 else 0.0


def _quantile(parts: list[tuple[float, int]]) -> float:
    """For a sum of variances of which some have few degrees of freedom.

    Student's, with those of Satterthwaite, Biometrics Bulletin 2, 1946; the normal one where the
    images alone vary.

    Args:
        parts: (variance, degrees of freedom) of the images, then of seeds.
    """
    if not any(variance for variance, _ in parts[1:]):
        return _NORMAL
    from scipy.special import stdtrit

    total = sum(variance for variance, _ in parts)
    freedom = total**2 / sum(v * v / max(free, 1) for v, free in parts)
    return float(stdtrit(freedom, (1 + LEVEL) / 2))
