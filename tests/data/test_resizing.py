"""Resizing: the filters of torch and pillow differ only by rounding."""

import numpy as np
import pytest
from PIL import Image

from transferkit.data.resizing import resizer


def smooth(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("box", [(0, 0, 300, 200), (17, 3, 90, 180), (5, 5, 6, 199)])
def test_resizer__torch_and_pillow_differ_only_by_rounding(interpolation, box):
    pixels = np.asarray(smooth(300, 200))
    image = Image.fromarray(pixels).crop(box)
    image = image.resize((64, 48), Image.Resampling[interpolation.upper()])

    ours = resizer(interpolation)(pixels, box, (48, 64))

    assert ours.shape == (48, 64, 3)
    assert np.abs(ours.astype(int) - np.asarray(image)).max() <= 2


def test_resizer__knows_pillows_other_filters():
    pixels = np.asarray(smooth(30, 20))
    expected = Image.fromarray(pixels).crop((0, 0, 20, 20))
    expected = expected.resize((6, 5), Image.Resampling.LANCZOS)

    assert np.array_equal(resizer("lanczos")(pixels, (0, 0, 20, 20), (5, 6)), expected)
