"""The confusion matrix: the most frequent mistakes, and a picture for many classes."""

import base64
from io import BytesIO

import numpy as np
from PIL import Image

from transferkit.report.mistakes import describe_confusion


def test_describe_confusion__lists_the_most_frequent_mistakes():
    counts = np.array([[5, 3, 0], [0, 2, 0], [1, 3, 0]])
    shown = describe_confusion(counts, ("a", "b", "c"), pairs=2)

    # Equal counts: the larger share of its class comes first.
    assert [(p.label, p.predicted, p.count, p.share) for p in shown.pairs] == [
        ("c", "b", 3, 0.75), ("a", "b", 3, 0.375),
    ]  # fmt: skip
    assert shown.heat is None


def test_describe_confusion__draws_many_classes_with_a_pixel_each():
    counts = np.eye(30, dtype=np.int64)
    counts[3, 7] = 1
    heat = describe_confusion(counts, [str(i) for i in range(30)]).heat
    assert heat is not None
    pixels = Image.open(BytesIO(base64.b64decode(heat.split(",")[1])))

    assert pixels.size == (30, 30)
    assert pixels.getpixel((0, 0)) == (0, 114, 178, 255)
    assert pixels.getpixel((7, 3)) == (213, 94, 0, 180)
    assert pixels.getpixel((8, 3))[3] == 0
