"""Heatmaps: where the evidence for a class lies, drawn over the image.

The image is the network's input, upright and cropped, padded or squashed. So the heat is in the
right place, and nothing is shown that the network did not see.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_COLOURS = "inferno"
"""A perceptually uniform colour map of matplotlib."""

_GREY_BRIGHTNESS = 0.6
"""Brightness of the grey image where there is no heat."""

_MAX_OPACITY = 0.8
"""Opacity of the colour where the heat is greatest."""

_TOP_PERCENTILE = 98
"""Percentile of the heat that gets the brightest colour: single pixels lie far above it."""


def overlay(image: Image.Image, heat: NDArray[np.floating[Any]]) -> Image.Image:
    """Draw a heatmap over an image: grey where there is no heat, then from purple to yellow.

    Each heatmap has its own scale: its greatest heat is yellow, however small it is.

    Args:
        image: The network's input, of any size.
        heat: (H, W) of the same view, 0 or more; resized to the image.

    Returns:
        An RGB image of the size of `image`.
    """
    strength = _strength(heat, image.size)
    grey = np.asarray(image.convert("L"), dtype=np.float32) * _GREY_BRIGHTNESS
    share = (_MAX_OPACITY * strength)[:, :, None]
    colours = _colour_table()[np.rint(255 * strength).astype(np.intp)]
    mixed = (1 - share) * grey[:, :, None] + share * colours
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _strength(heat: NDArray[np.floating[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the heat resized to (height, width) and scaled to 0..1; zeros stay zeros."""
    top = float(np.percentile(heat, _TOP_PERCENTILE)) or float(heat.max()) or 1.0
    scaled = Image.fromarray(np.clip(heat / top, 0, 1).astype(np.float32))
    strength: NDArray[np.float32] = np.asarray(scaled.resize(size, Image.Resampling.BILINEAR))
    return strength.clip(0, 1)


@cache
def _colour_table() -> NDArray[np.float32]:
    """Return (256, 3) colours in 0..255, from no heat to the greatest."""
    from matplotlib import colormaps  # takes a quarter of a second to import

    colours: NDArray[np.float32] = colormaps[_COLOURS](np.arange(256))[:, :3].astype(np.float32)
    return 255 * colours
