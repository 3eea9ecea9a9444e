"""Images without objects: random programs of coordinates, noise and random networks.

After Baradad et al., Procedural Image Programs for Representation Learning (NeurIPS 2022) and
Learning to See by Looking at Noise (NeurIPS 2021).
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from grounds import Picture, Plane, grid, noise, palette
from numpy.random import Generator
from torch.nn import functional

_UNARY: tuple[Callable[[Plane, float, float], Plane], ...] = (
    lambda u, a, b: np.sin(a * u + b),
    lambda u, a, b: np.abs(u + 0.3 * b) * 2 - 1,
    lambda u, a, b: np.mod(a * u + b, 1.0).astype(np.float32) * 2 - 1,
    lambda u, a, b: np.tanh(a * u + 0.5 * b),
    lambda u, a, b: np.exp(-((a * (u - 0.3 * b)) ** 2) / 4) * 2 - 1,
    lambda u, a, b: np.sign(np.sin(a * u + b)) * 0.8,
    lambda u, a, b: u * u * 2 - 1,
)
_BINARY: tuple[Callable[[Plane, Plane], Plane], ...] = (
    lambda u, v: u + v,
    lambda u, v: u * v,
    np.maximum,
    np.minimum,
    lambda u, v: np.hypot(u, v) - 0.7,
    lambda u, v: np.arctan2(u, v + 1e-6) / 2,
    lambda u, v: np.sin(3 * u + 2 * v),
)


def _evaluate(what: Generator, how: Generator, x: Plane, y: Plane) -> Plane:
    """Return a random expression of the coordinates, (H, W)."""
    values = [x, y, np.hypot(x, y) - 0.6, np.arctan2(y, x) / np.pi]
    if what.random() < 0.5:
        values.append(noise(how, x.shape[0], what.uniform(1.0, 2.2)))
    for _ in range(int(what.integers(4, 11))):
        first = values[int(what.integers(len(values)))]
        if what.random() < 0.5:
            operation = _UNARY[int(what.integers(len(_UNARY)))]
            pace = what.uniform(1, 9) * math.exp(how.normal(0, 0.08))
            values.append(operation(first, pace, what.uniform(-3, 3) + how.normal(0, 0.15)))
        else:
            second = values[int(what.integers(len(values)))]
            values.append(_BINARY[int(what.integers(len(_BINARY)))](first, second))
    weights = what.normal(size=4)
    latest = values[-4:]
    return sum(  # type: ignore[return-value]
        float(weight) * value for weight, value in zip(weights, latest, strict=True)
    ) / (np.abs(weights).sum() * 0.5)


def _warped(what: Generator, how: Generator, side: int) -> tuple[Plane, Plane]:
    """Return the coordinates of a pose, bent, mirrored or repeated as the program says."""
    x, y = grid(side, how)
    bend = what.uniform(0, 0.5) if what.random() < 0.5 else 0.0
    if bend:
        slope = what.uniform(1.3, 2.4)
        x, y = x + bend * noise(how, side, slope), y + bend * noise(how, side, slope)
    if what.random() < 0.25:
        count = int(what.integers(2, 5))
        x = np.mod(count * x / 2 + 0.5, 1.0) * 2 - 1
        y = np.mod(count * y / 2 + 0.5, 1.0) * 2 - 1
    if what.random() < 0.2:
        x = np.abs(x)
    return x.astype(np.float32), y.astype(np.float32)


def formula(what: Generator, how: Generator, side: int) -> Picture:
    """Draw a random program of coordinates, coloured by one palette, or by two in parts of it."""
    x, y = _warped(what, how, side)
    t = _evaluate(what, how, x, y)
    picture = palette(what, how)(t * what.uniform(0.5, 2))
    if what.random() < 0.4:
        with np.errstate(over="ignore"):  # where the share is nothing
            share = 1 / (1 + np.exp(-6 * _evaluate(what, how, x, y)))[..., None]
        other = palette(what, how)(_evaluate(what, how, y, x))
        picture = picture * share + other * (1 - share)
    return picture.astype(np.float32)


def texture(what: Generator, how: Generator, side: int) -> Picture:
    """Draw noise with a natural spectrum, stretched, stepped or crossed with itself."""
    slope, stretch = what.uniform(0.5, 2.0), math.exp(what.normal(0, 0.5))
    t = noise(how, side, slope, stretch)
    kind = what.integers(4)
    if kind == 0:
        t = np.abs(t) * 2 - 1
    elif kind == 1:
        t = np.sin(what.uniform(2, 9) * t).astype(np.float32)
    elif kind == 2:
        t = t * noise(how, side, slope, 1 / stretch) * 2
    picture = palette(what, how)(t * what.uniform(0.5, 1.5))
    picture += what.uniform(0, 0.15) * noise(how, side, 0.7)[..., None]
    return picture


_FILTERS = np.array(
    [
        [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
        [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
        [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
        [[2, 1, 0], [1, 0, -1], [0, -1, -2]],
        [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]],
        [[-1, -2, -1], [-2, 12, -2], [-1, -2, -1]],
        [[-1, 2, -1], [-2, 4, -2], [-1, 2, -1]],
        [[-1, -2, -1], [2, 4, 2], [-1, -2, -1]],
    ],
    dtype=np.float32,
)
"""A blur, edges of four directions, a spot and two lines."""
_CHANNELS = 20


def generated(what: Generator, how: Generator, side: int) -> Picture:
    """Draw the output of a random convolutional generator for noise, level by level.

    Its kernels are oriented filters, a few per channel: the best of the formulas that Baradad et
    al. (NeurIPS 2021, StyleGAN-Oriented) tried.
    """
    filters = _FILTERS / np.sqrt((_FILTERS**2).sum((1, 2), keepdims=True))
    sizes = [4]
    while 2 * sizes[-1] < side:
        sizes.append(2 * sizes[-1])
    grain = what.uniform(0.05, 0.4)
    x = what.uniform(0.3, 1) * what.normal(size=(1, _CHANNELS, 4, 4))
    x = torch.from_numpy((x + 0.7 * how.normal(size=x.shape)).astype(np.float32))
    picture = torch.zeros(1, 3, 4, 4)
    for level, size in enumerate((*sizes, side)):
        x = functional.interpolate(x, (size, size), mode="bilinear")
        share = (_CHANNELS, _CHANNELS)
        mix = what.normal(size=share) * (what.random(share) < 0.25)
        kinds = what.integers(len(filters), size=share) * (what.random(share) < 0.6)
        kernels = torch.from_numpy((mix[..., None, None] * filters[kinds]).astype(np.float32))
        x = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), kernels)
        each = (1, _CHANNELS, 1, 1)
        noisy = grain * np.exp(what.normal(size=each)) * (what.random(each) < 0.5)
        noise = (noisy * how.normal(size=(1, 1, size, size))).astype(np.float32)
        x = x / (x.std((2, 3), keepdim=True) + 1e-4) + torch.from_numpy(noise)
        gain = np.exp(what.normal(0, 0.7, each)).astype(np.float32)
        offset = (what.normal(0, 0.6, each) + how.normal(0, 0.1, each)).astype(np.float32)
        x = functional.leaky_relu(torch.from_numpy(gain) * x + torch.from_numpy(offset), 0.1)
        colours = (what.normal(size=(3, _CHANNELS, 1, 1)) / math.sqrt(_CHANNELS)).astype(np.float32)
        part = functional.conv2d(x, torch.from_numpy(colours))
        weight = float(what.uniform(0.1, 1)) * (0.35 if level < 2 else 1)
        picture = functional.interpolate(picture, (size, size), mode="bilinear") + weight * part
    values = picture[0].permute(1, 2, 0).numpy()
    grey = values.mean(axis=2, keepdims=True)
    values = grey + what.uniform(0.2, 1) * (values - grey)
    values = (values - values.mean((0, 1))) / (values.std() + 1e-4)
    mean = what.uniform(0.2, 0.8, 3) + how.normal(0, 0.03, 3)
    return (mean + what.uniform(0.1, 0.35) * values).astype(np.float32)
