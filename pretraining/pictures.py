"""Pictures made by formula: what the embedded backbone is pretrained on.

A program is a number. One stream of random numbers, `what`, decides what its picture shows,
another, `how`, the pose, the light, the ground and the grain. The families are those that were
found to transfer: noise with a natural spectrum, occluding shapes ("dead leaves"), random networks
with oriented filters (Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021), random
programs of coordinates (Baradad et al., Procedural Image Programs for Representation Learning,
NeurIPS 2022) and iterated function systems (Kataoka et al., Pre-training without Natural Images,
ACCV 2020); line drawings and lit bodies join them.
"""

import numpy as np
from grounds import Picture
from numpy.random import Generator
from numpy.typing import NDArray
from shapes import body, drawing, fractal, leaves
from textures import formula, generated, texture

FAMILIES = (
    formula, formula, texture, generated, generated, generated,
    leaves, leaves, body, body, fractal, drawing,
)  # fmt: skip
"""What a program may be; the more telling ones stand more than once."""


def render(program: int, side: int) -> NDArray[np.uint8]:
    """A picture, (side, side, 3) uint8; the same numbers always give the same.

    Args:
        program: What is shown, and how.
        side: In pixels.
    """
    what, how = (np.random.default_rng((program, stream)) for stream in (0, 1))
    family = FAMILIES[int(what.integers(len(FAMILIES)))]
    picture = family(what, how, side)
    return np.round(255 * _developed(picture, how)).astype(np.uint8)


def _developed(picture: Picture, how: Generator) -> Picture:
    """Light and sensor: gain, gamma, paler colours, a cast and a little noise."""
    picture = np.clip(picture, 0, 1) ** how.uniform(0.7, 1.4)
    grey = picture.mean(axis=2, keepdims=True)
    picture = grey + how.uniform(0.25, 1) * (picture - grey)
    picture = picture * how.uniform(0.75, 1.1) * how.uniform(0.93, 1.07, 3)
    noise = how.normal(0, how.uniform(0, 0.02), picture.shape)
    return np.clip(picture + noise, 0, 1).astype(np.float32)
