"""Pictures made by formula: what the embedded backbone is pretrained on.

A program is a number. One stream of random numbers, `what`, decides what its picture shows,
another, `how`, the pose, the light, the ground and the grain. The families are those that were
found to transfer: noise with a natural spectrum, occluding shapes ("dead leaves"), random networks
with oriented filters (Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021), random
programs of coordinates (Baradad et al., Procedural Image Programs for Representation Learning,
NeurIPS 2022) and iterated function systems (Kataoka et al., Pre-training without Natural Images,
ACCV 2020); line drawings and lit bodies join them.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch.nn import functional

Plane = NDArray[np.float32]
"""(H, W) values."""
Picture = NDArray[np.float32]
"""(H, W, 3) values from 0 to 1."""


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


# Coordinates and noise


def _grid(side: int, how: Generator, spread: float = 1.0) -> tuple[Plane, Plane]:
    """X and y of a pose: turned, scaled and shifted a little; about -1 to 1."""
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


def _noise(random: Generator, side: int, slope: float, stretch: float = 1.0) -> Plane:
    """Noise whose amplitude falls as frequency to the power of -slope; -1 to 1 or so."""
    frequency_y = np.fft.fftfreq(side)[:, None] * stretch
    frequency_x = np.fft.rfftfreq(side)[None, :] / stretch
    radius = np.sqrt(frequency_x**2 + frequency_y**2)
    radius[0, 0] = np.inf
    spectrum = random.normal(size=(*radius.shape, 2)) @ np.array([1, 1j])
    plane = np.fft.irfft2(spectrum * radius**-slope, s=(side, side))
    return ((plane - plane.mean()) / (2 * plane.std() + 1e-9)).astype(np.float32)


def _palette(what: Generator, how: Generator) -> Callable[[Plane], Picture]:
    """Values to colours: a cosine for each channel, or steps between a few colours."""
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


# Random programs of coordinates

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
    """A random expression of the coordinates, (H, W)."""
    values = [x, y, np.hypot(x, y) - 0.6, np.arctan2(y, x) / np.pi]
    if what.random() < 0.5:
        values.append(_noise(how, x.shape[0], what.uniform(1.0, 2.2)))
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
    """Coordinates of a pose that are bent, mirrored or repeated as the program has it."""
    x, y = _grid(side, how)
    bend = what.uniform(0, 0.5) if what.random() < 0.5 else 0.0
    if bend:
        slope = what.uniform(1.3, 2.4)
        x, y = x + bend * _noise(how, side, slope), y + bend * _noise(how, side, slope)
    if what.random() < 0.25:
        count = int(what.integers(2, 5))
        x = np.mod(count * x / 2 + 0.5, 1.0) * 2 - 1
        y = np.mod(count * y / 2 + 0.5, 1.0) * 2 - 1
    if what.random() < 0.2:
        x = np.abs(x)
    return x.astype(np.float32), y.astype(np.float32)


def formula(what: Generator, how: Generator, side: int) -> Picture:
    """A random program of coordinates, coloured by one palette or by two that share the picture."""
    x, y = _warped(what, how, side)
    t = _evaluate(what, how, x, y)
    picture = _palette(what, how)(t * what.uniform(0.5, 2))
    if what.random() < 0.4:
        with np.errstate(over="ignore"):  # where the share is nothing
            share = 1 / (1 + np.exp(-6 * _evaluate(what, how, x, y)))[..., None]
        other = _palette(what, how)(_evaluate(what, how, y, x))
        picture = picture * share + other * (1 - share)
    return picture.astype(np.float32)


def texture(what: Generator, how: Generator, side: int) -> Picture:
    """Noise of a natural spectrum, stretched, stepped or crossed with itself."""
    slope, stretch = what.uniform(0.5, 2.0), math.exp(what.normal(0, 0.5))
    t = _noise(how, side, slope, stretch)
    kind = what.integers(4)
    if kind == 0:
        t = np.abs(t) * 2 - 1
    elif kind == 1:
        t = np.sin(what.uniform(2, 9) * t).astype(np.float32)
    elif kind == 2:
        t = t * _noise(how, side, slope, 1 / stretch) * 2
    picture = _palette(what, how)(t * what.uniform(0.5, 1.5))
    picture += what.uniform(0, 0.15) * _noise(how, side, 0.7)[..., None]
    return picture


# Random networks

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
    """What a random convolutional generator makes of noise, level by level.

    Its kernels are oriented filters, few to a channel, which gave the best of the formulas that
    Baradad et al. (NeurIPS 2021, StyleGAN-Oriented) tried.
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


# Shapes


def _outline(what: Generator, how: Generator, size: float) -> NDArray[np.float64]:
    """(K, 2) points around the origin: a smooth blob, a polygon, a star or an ellipse."""
    kind = what.integers(4)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    if kind == 0:
        orders = np.arange(2, 7)
        swings = what.normal(0, 0.35, 5) / orders + how.normal(0, 0.02, 5)
        phases = what.uniform(0, 2 * np.pi, 5)
        radius = 1 + (swings[:, None] * np.cos(orders[:, None] * angles + phases[:, None])).sum(0)
    elif kind == 1:
        angles = np.sort(what.uniform(0, 2 * np.pi, int(what.integers(3, 8))))
        radius = what.uniform(0.6, 1.2, len(angles))
    elif kind == 2:
        points = int(what.integers(3, 9))
        angles = np.linspace(0, 2 * np.pi, 2 * points, endpoint=False)
        radius = np.where(np.arange(2 * points) % 2, what.uniform(0.3, 0.8), 1.0)
    else:
        radius = np.ones_like(angles)
    stretch = math.exp(what.normal(0, 0.35))
    x, y = radius * np.cos(angles) * stretch, radius * np.sin(angles) / stretch
    turn = how.normal(0, 0.4) + what.uniform(0, 2 * np.pi)
    cos, sin = math.cos(turn), math.sin(turn)
    return size * np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)


def _mask(points: NDArray[np.float64], side: int) -> Plane:
    """What lies inside, smooth at the edge, 0 to 1."""
    image = Image.new("L", (2 * side, 2 * side))
    ImageDraw.Draw(image).polygon([(float(2 * x), float(2 * y)) for x, y in points], fill=255)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.float32) / 255


def _filling(what: Generator, how: Generator, side: int) -> Picture:
    """A flat colour, a gradient, a texture or a formula."""
    kind = what.random()
    if kind < 0.3:
        flat = what.uniform(0, 1, 3) + how.normal(0, 0.04, 3)
        return np.broadcast_to(flat.astype(np.float32), (side, side, 3))
    if kind < 0.5:
        x, y = _grid(side, how, 0.5)
        t = (what.normal() * x + what.normal() * y)[..., None]
        first, second = what.uniform(0, 1, (2, 3))
        return (first + (second - first) * (np.tanh(t) + 1) / 2).astype(np.float32)
    make = texture if kind < 0.65 else generated if kind < 0.85 else formula
    return make(what, how, side)


def leaves(what: Generator, how: Generator, side: int) -> Picture:
    """Shapes over shapes, few large and many small (Lee, Mumford and Huang, IJCV 2001)."""
    picture = np.array(_filling(what, how, side), dtype=np.float32)
    kinds = [int(seed) for seed in what.integers(2**31, size=int(what.integers(1, 5)))]
    for _ in range(int(what.integers(8, 40))):
        seed = kinds[int(how.integers(len(kinds)))]
        leaf = np.random.default_rng(seed)
        size = side * min(0.5, 0.04 / how.uniform(0.02, 1) ** 0.6)
        points = _outline(leaf, how, size) + how.uniform(0, side, 2)
        # Only the part that it can cover: most of them are small.
        low = np.clip(points.min(0).astype(int) - 1, 0, side)
        high = np.clip(points.max(0).astype(int) + 2, 0, side)
        extent = int((high - low).max())
        if (high - low).min() <= 0:
            continue
        rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
        mask = _mask(points - low, extent)[: high[1] - low[1], : high[0] - low[0], None]
        filling = _filling(leaf, how, max(extent, 8))[: mask.shape[0], : mask.shape[1]]
        picture[rows, columns] += (filling - picture[rows, columns]) * mask
    return picture.astype(np.float32)


def _ground(how: Generator, side: int) -> Picture:
    """What stands behind things: often out of focus."""
    ground = np.array(_filling(how, how, side), dtype=np.float32)
    if how.random() < 0.5:
        small = max(4, int(side / how.uniform(2, 12)))
        image = Image.fromarray(np.uint8(255 * np.clip(ground, 0, 1)))
        image = image.resize((small, small), Image.Resampling.BOX)
        image = image.resize((side, side), Image.Resampling.BICUBIC)
        ground = np.asarray(image, dtype=np.float32) / 255
    return ground


def body(what: Generator, how: Generator, side: int) -> Picture:
    """A thing of a few lit parts with their own textures, before a ground of its own."""
    picture = _ground(how, side)
    middle = side * (0.5 + how.normal(0, 0.08, 2))
    scale = side * 0.3 * math.exp(how.normal(0, 0.2))
    turn = how.normal(0, 0.4)
    cos, sin = math.cos(turn), math.sin(turn)
    light = how.normal(size=3) + np.array([0, -0.7, 1.2])
    light /= np.linalg.norm(light)
    for _ in range(int(what.integers(2, 8))):
        part = np.random.default_rng(int(what.integers(2**31)))
        place = what.normal(0, 0.6, 2)
        place = np.array([cos * place[0] - sin * place[1], sin * place[0] + cos * place[1]])
        points = _outline(part, how, scale * what.uniform(0.25, 0.9)) + middle + scale * place
        mask = _mask(points, side)
        shaded = _filling(part, how, side) * _lit(mask, light, side)[..., None]
        picture = picture * (1 - mask[..., None]) + shaded * mask[..., None]
    return picture.astype(np.float32)


def _lit(mask: Plane, light: NDArray[np.float64], side: int) -> Plane:
    """How bright a rounded body of this outline is, by Lambert's law."""
    height = np.asarray(
        Image.fromarray(np.uint8(255 * mask)).resize((side // 6, side // 6), Image.Resampling.BOX)
        .resize((side, side), Image.Resampling.BICUBIC),
        dtype=np.float32,
    ) / 255  # fmt: skip
    slope_y, slope_x = np.gradient(np.sqrt(height + 0.01) * side * 0.35)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    bright = (-slope_x * light[0] - slope_y * light[1] + light[2]) / length
    return (0.35 + 0.75 * np.clip(bright, 0, 1)).astype(np.float32)


def fractal(what: Generator, how: Generator, side: int) -> Picture:
    """An iterated function system: where random maps, applied in turn, lead many points."""
    count = int(what.integers(2, 7))
    maps = what.uniform(-1, 1, (count, 2, 2))
    # Contracting ones (Anderson and Farrell, WACV 2022): singular values below one.
    u, values, v = np.linalg.svd(maps)
    values = what.uniform([0.5, 0.2], [0.95, 0.8], (count, 2))
    maps = u @ (values[..., None] * v) + how.normal(0, 0.015, maps.shape)
    shifts = what.uniform(-1, 1, (count, 2))
    chance = np.abs(np.linalg.det(maps)) + 0.05
    points = np.zeros((400, 2))
    places, chosen = [], []
    for step in range(60):
        which = what.choice(count, size=len(points), p=chance / chance.sum())
        points = np.einsum("nij,nj->ni", maps[which], points) + shifts[which]
        if step > 10:
            places.append(points)
            chosen.append(which)
    all_points, which = np.concatenate(places), np.concatenate(chosen)
    all_points -= np.median(all_points, axis=0)
    all_points /= np.percentile(np.abs(all_points), 95) + 1e-9
    turn, scale = how.normal(0, 0.4), 0.4 * side * math.exp(how.normal(0, 0.2))
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    x = cos * all_points[:, 0] - sin * all_points[:, 1] + side / 2 + how.normal(0, side / 12)
    y = sin * all_points[:, 0] + cos * all_points[:, 1] + side / 2 + how.normal(0, side / 12)
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    colours = what.uniform(0, 1, (count, 3))
    cell = y[inside].astype(int) * side + x[inside].astype(int)
    hits = np.bincount(cell, minlength=side * side).reshape(side, side, 1)
    total = np.stack(
        [np.bincount(cell, c[which[inside]], side * side) for c in colours.T], axis=-1
    ).reshape(side, side, 3)
    share = np.clip(hits / 2, 0, 1)
    ground = _ground(how, side)
    return (total / np.maximum(hits, 1) * share + ground * (1 - share)).astype(np.float32)


def drawing(what: Generator, how: Generator, side: int) -> Picture:
    """Strokes: curves, hatching and outlines on paper."""
    paper = _ground(how, side) if how.random() < 0.6 else np.ones((side, side, 3)) * 0.9
    image = Image.fromarray(np.uint8(255 * np.clip(paper, 0, 1))).resize((2 * side, 2 * side))
    pen = ImageDraw.Draw(image)
    ink = [tuple(int(c) for c in what.integers(0, 200, 3)) for _ in range(3)]
    turn, scale = how.normal(0, 0.35), side * math.exp(how.normal(0, 0.2))
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    middle = side + how.normal(0, side / 8, 2)
    for _ in range(int(what.integers(5, 30))):
        kind, colour = what.random(), ink[int(what.integers(3))]
        width = int(what.integers(1, 6))
        if kind < 0.6:
            corners = what.normal(0, 0.6, (4, 2)) + how.normal(0, 0.03, (4, 2))
            t = np.linspace(0, 1, 16)[:, None]
            curve = (
                (1 - t) ** 3 * corners[0] + 3 * t * (1 - t) ** 2 * corners[1]
                + 3 * t**2 * (1 - t) * corners[2] + t**3 * corners[3]
            )  # fmt: skip
        else:
            curve = _outline(np.random.default_rng(int(what.integers(2**31))), how, 0.4)
            curve = np.concatenate([curve, curve[:1]]) + what.normal(0, 0.4, 2)
        turned = np.stack(
            [cos * curve[:, 0] - sin * curve[:, 1], sin * curve[:, 0] + cos * curve[:, 1]], axis=1
        )
        points = [(float(x), float(y)) for x, y in turned + middle]
        if kind > 0.85:
            pen.polygon(points, fill=colour)
        pen.line(points, fill=colour, width=width, joint="curve")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.float32) / 255


FAMILIES = (
    formula, formula, texture, generated, generated, generated,
    leaves, leaves, body, body, fractal, drawing,
)  # fmt: skip
"""What a program may be; the more telling ones stand more than once."""
