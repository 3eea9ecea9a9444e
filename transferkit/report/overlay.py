"""Where the evidence for a class lies, drawn over the picture.

The picture is the network's own view, upright and cropped, padded or squashed as it was computed:
so the heat lies where it belongs, and nothing is shown that the network never saw.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_COLOURS = "inferno"
"""Of matplotlib, perceptually uniform."""

_DIMMED = 0.6
"""How bright the grey picture is where there is no heat."""

_STRONGEST = 0.8
"""How much of the colour is seen where the heat is greatest, and how little of the picture."""

_TOP = 98
"""Percentile of the heat that has the brightest colour: single pixels lie far above."""


def overlay(picture: Image.Image, heat: NDArray[np.floating[Any]]) -> Image.Image:
    """Lay a heat over a picture: grey where there is none, then from purple to yellow.

    The scale is the heat's own: the greatest is yellow, however small it is.

    Args:
        picture: The network's view, of any size.
        heat: (H, W) of the same view, 0 or more; scaled to the picture.

    Returns:
        RGB, of the size of `picture`.
    """
    strength = _strength(heat, picture.size)
    grey = np.asarray(picture.convert("L"), dtype=np.float32) * _DIMMED
    share = (_STRONGEST * strength)[:, :, None]
    colours = _colour_table()[np.rint(255 * strength).astype(np.intp)]
    mixed = (1 - share) * grey[:, :, None] + share * colours
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _strength(heat: NDArray[np.floating[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
    """The heat as (height, width) in 0..1, of which the greatest are 1; zeros stay zeros."""
    top = float(np.percentile(heat, _TOP)) or float(heat.max()) or 1.0
    scaled = Image.fromarray(np.clip(heat / top, 0, 1).astype(np.float32))
    strength: NDArray[np.float32] = np.asarray(scaled.resize(size, Image.Resampling.BILINEAR))
    return strength.clip(0, 1)


@cache
def _colour_table() -> NDArray[np.float32]:
    """(256, 3) from no heat to the greatest, 0 to 255."""
    from matplotlib import colormaps  # takes a quarter of a second

    colours: NDArray[np.float32] = colormaps[_COLOURS](np.arange(256))[:, :3].astype(np.float32)
    return 255 * colours
