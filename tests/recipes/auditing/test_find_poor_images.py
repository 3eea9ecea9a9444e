"""Poor images are named by thresholds, unless the whole dataset is like them."""

from dataclasses import fields

import numpy as np
import pytest

from transferkit.data.image_measures import ImageMeasures
from transferkit.recipes.auditing.find_poor_images import find_poor_images
from transferkit.tables.audit_findings import Kind

USUAL = {
    **{"width": 300, "height": 200, "bytes_per_pixel": 0.5, "format": 0, "quantization": 5},
    **{"red": 120, "green": 120, "blue": 120, "highlights": 230, "shadows": 10},
    **{"contrast": 60, "sharpness": 700},
}
POOR = {
    Kind.BLANK: {"contrast": 0.5},
    Kind.DARK: {"highlights": 25},
    Kind.BRIGHT: {"shadows": 235},
    Kind.BLURRED: {"sharpness": 4},
    Kind.TINY: {"width": 40, "height": 30},
    Kind.LONG: {"width": 1200},
}


def measures(*changes: dict) -> ImageMeasures:
    """Return measures of 20 usual images and of one for each of `changes`."""
    rows = [USUAL] * 20 + [{**USUAL, **change} for change in changes]
    return ImageMeasures(
        **{f.name: np.array([row[f.name] for row in rows], float) for f in fields(ImageMeasures)}
    )


def named(found: ImageMeasures) -> list[tuple[Kind, str]]:
    paths = [str(row) for row in range(len(found.width))]
    return [(f.kind, f.path) for f in find_poor_images(paths, found).findings]


@pytest.mark.parametrize("kind", POOR)
def test_find_poor_images__names_what_is_below_the_threshold(kind):
    assert named(measures(POOR[kind])) == [(kind, "20")]


def test_find_poor_images__names_no_usual_image():
    assert named(measures()) == []


@pytest.mark.parametrize("kind", POOR)
def test_find_poor_images__names_none_where_all_are_so(kind):
    assert named(measures(*[POOR[kind]] * 60)) == []


def test_find_poor_images__calls_a_blank_image_nothing_else():
    assert named(measures({"contrast": 0.1, "sharpness": 0, "highlights": 3})) == [
        (Kind.BLANK, "20")
    ]


def test_find_poor_images__names_the_worst_first_and_tells_the_threshold():
    found = find_poor_images(
        list(map(str, range(22))), measures({"sharpness": 12}, {"sharpness": 3})
    )

    assert [(f.path, f.score) for f in found.findings] == [("21", 0.8), ("20", pytest.approx(0.2))]
    assert found.rules[Kind.BLURRED] == "variance of the Laplacian below 15, at 256 pixels"
    assert set(found.rules) == set(POOR)


def test_find_poor_images__leaves_out_what_could_not_be_measured():
    assert named(measures(dict.fromkeys(USUAL, np.nan))) == []
