"""What all families of images share: coordinates of a pose, noise and palettes."""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""(H, W) values."""
Picture = NDArray[np.float32]
"""(H, W, 3) values from 0 to 1."""


def grid(side: int, how: Generator, spread: float = 1.0) -> tuple[Plane, Plane]:
    """Return x and y of a pose, slightly rotated, scaled and shifted; about -1 to 1."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    turn = how.normal(0, 0.35 * spread)
    scale = math.exp(how.normal(0, 0.25 * spread))
    shift = how.normal(0, 0.2 * spread, 2)
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    return (
        (cos * x - sin * y + shift[0]).astype(np.float32),
        (sin * x + cos * y + shift[1]).astype(np.float32),
    )


def noise(random: Generator, side: int, slope: float, stretch: float = 1.0) -> Plane:
    """Return noise whose amplitude falls with frequency to the power of -slope; about -1 to 1."""
    frequency_y = np.fft.fftfreq(side)[:, None] * stretch
    frequency_x = np.fft.rfftfreq(side)[None, :] / stretch
    radius = np.sqrt(frequency_x**2 + frequency_y**2)
    radius[0, 0] = np.inf
    spectrum = random.normal(size=(*radius.shape, 2)) @ np.array([1, 1j])
    plane = np.fft.irfft2(spectrum * radius**-slope, s=(side, side))
    return ((plane - plane.mean()) / (2 * plane.std() + 1e-9)).astype(np.float32)


def palette(what: Generator, how: Generator) -> Callable[[Plane], Picture]:
    """Map values to colours: by a cosine for each channel, or in steps between a few colours."""
    if what.random() < 0.5:
        base, swing = what.uniform(0.3, 0.7, 3), what.uniform(0.1, 0.5, 3)
        pace, phase = what.uniform(0.3, 1.6, 3), what.uniform(0, 1, 3) + how.normal(0, 0.06)
        return lambda t: (base + swing * np.cos(2 * np.pi * (pace * t[..., None] + phase))).astype(
            np.float32
        )
    count = int(what.integers(2, 7))
    colours = what.uniform(0, 1, (count, 3)) + how.normal(0, 0.05, 3)
    sharp = what.random() < 0.3

    def steps(t: Plane) -> Picture:
        place = (np.tanh(t) + 1) / 2 * (count - 1)
        low = np.clip(place.astype(int), 0, count - 2)
        share = (place - low)[..., None]
        share = np.round(share) if sharp else share
        return (colours[low] * (1 - share) + colours[low + 1] * share).astype(np.float32)

    return steps
