"""Find images that are far from all others in feature space."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from transferkit.models.usual_images import FEWEST, NEIGHBOURS, distances_among
from transferkit.recipes.auditing.audit_result import Found
from transferkit.tables.audit_findings import Finding, Kind

_DEVIATIONS = 5.0
"""Robust standard deviations above the median beyond which an image is far from the others."""

_TO_STANDARD = 1.4826
"""The standard deviation of a normal distribution by its median absolute deviation."""


def find_outliers(paths: Sequence[str], features: NDArray[np.float32]) -> Found:
    """Name the images whose nearest others are much farther than usual, the farthest first.

    Args:
        paths: N paths.
        features: (N, D).
    """
    if len(paths) < FEWEST:
        return Found({Kind.OUTLIER: f"not looked for among fewer than {FEWEST} images"})
    distances = distances_among(features).astype(np.float64)
    median = float(np.median(distances))
    spread = _TO_STANDARD * float(np.median(np.abs(distances - median)))
    limit = median + _DEVIATIONS * spread
    rows = np.flatnonzero(distances > limit)
    findings = (
        Finding(
            Kind.OUTLIER,
            paths[row],
            float(1 - limit / distances[row]),
            f"cosine distance {distances[row]:.3f} to its nearest images, usually {median:.3f}",
        )
        for row in rows[np.argsort(-distances[rows], kind="stable")]
    )
    rule = (
        f"cosine distance to the nearest {NEIGHBOURS} images above {limit:.3f}, "
        f"{_DEVIATIONS:.0f} deviations above the median"
    )
    return Found({Kind.OUTLIER: rule}, tuple(findings))
