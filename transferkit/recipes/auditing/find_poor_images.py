"""Find images of poor quality or odd shape, by measures with thresholds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.data.image_measures import ImageMeasures
from transferkit.recipes.auditing.audit_result import Found
from transferkit.tables.audit_findings import Finding, Kind

_Values = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class _Check:
    """A measure that is low in poor images.

    An image is named if its value is below `limit` and also below a share of the dataset's median:
    where all images are so, as in a dataset of tiny or of dark images, that is how they should be.

    Attributes:
        kind: What the image is called.
        measure: The value of each image.
        limit: The threshold.
        share: The share of the median.
        rule: The threshold in words.
        detail: Text for one image, with its value as {value}.
    """

    kind: Kind
    measure: Callable[[ImageMeasures], _Values]
    limit: float
    share: float
    rule: str
    detail: str


_CHECKS = (
    _Check(
        Kind.BLANK,
        lambda m: m.contrast,
        limit=2.0,
        share=0.5,
        rule="standard deviation of every channel below {limit:.3g} of 255",
        detail="almost one colour: standard deviation {value:.2g} of 255",
    ),
    _Check(
        Kind.DARK,
        lambda m: m.highlights,
        limit=40.0,
        share=0.5,
        rule="99 % of the pixels darker than {limit:.3g} of 255",
        detail="dark: 99 % of the pixels are darker than {value:.3g} of 255",
    ),
    _Check(
        Kind.BRIGHT,
        lambda m: 255 - m.shadows,
        limit=40.0,
        share=0.5,
        rule="99 % of the pixels within {limit:.3g} of white",
        detail="bright: 99 % of the pixels are within {value:.3g} of white",
    ),
    _Check(
        Kind.BLURRED,
        lambda m: m.sharpness,
        limit=15.0,
        share=0.1,
        rule="variance of the Laplacian below {limit:.3g}, at 256 pixels",
        detail="blurred: variance of the Laplacian {value:.3g}",
    ),
)
"""Checks of the pixels, of which an image gets the first that applies: what is blank is not sharp
either. Measured on 2,193 photographs of cats, insects and ImageNet's categories: no untouched one
is below any limit (lowest values 19, 77, 149 and 25), nearly all that were darkened to a tenth or
blurred by a Gaussian of 4 pixels are (highest values 27 and 7)."""

_SHAPES = (
    _Check(
        Kind.TINY,
        lambda m: np.minimum(m.width, m.height),
        limit=64.0,
        share=0.5,
        rule="shorter side below {limit:.3g} pixels",
        detail="tiny: the shorter side has {value:.0f} pixels",
    ),
    _Check(
        Kind.LONG,
        lambda m: np.minimum(m.width, m.height) / np.maximum(m.width, m.height),
        limit=0.25,
        share=0.5,
        rule="shorter side below {limit:.2g} of the longer one",
        detail="long: the shorter side is {value:.2g} of the longer one",
    ),
)
"""Backbones see 128 pixels and more, and a crop of the centre, which leaves out half of an image
four times as long as it is wide. No image of those 2,193 is below either limit."""


def find_poor_images(paths: Sequence[str], measures: ImageMeasures) -> Found:
    """Name images that are blank, dark, bright, blurred, tiny or long, the worst of each first.

    Args:
        paths: N paths.
        measures: The measures of the N images.
    """
    rules: dict[Kind, str] = {}
    findings: list[Finding] = []
    free = np.ones(len(paths), dtype=bool)
    for check in (*_CHECKS, *_SHAPES):
        values = check.measure(measures).astype(np.float64)
        limit = min(check.limit, check.share * float(np.nanmedian(values)))
        low = values < limit
        if check in _CHECKS:
            low &= free
            free &= ~low
        rules[check.kind] = check.rule.format(limit=limit)
        rows = np.flatnonzero(low)
        findings += (
            Finding(
                check.kind,
                paths[row],
                float(1 - values[row] / limit),
                check.detail.format(value=values[row]),
            )
            for row in rows[np.argsort(values[rows], kind="stable")]
        )
    return Found(rules, tuple(findings))
