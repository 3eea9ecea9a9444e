"""Images of objects: dead leaves, lit bodies, fractals and line drawings."""

import math

import numpy as np
from grounds import Picture, Plane, grid
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from textures import formula, generated, texture


def _outline(what: Generator, how: Generator, size: float) -> NDArray[np.float64]:
    """Return (K, 2) points around the origin: a smooth blob, a polygon, a star or an ellipse."""
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
    """Return a mask of the inside, 0 to 1, smooth at the edge."""
    image = Image.new("L", (2 * side, 2 * side))
    ImageDraw.Draw(image).polygon([(float(2 * x), float(2 * y)) for x, y in points], fill=255)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.float32) / 255


def _filling(what: Generator, how: Generator, side: int) -> Picture:
    """Return a flat colour, a gradient, a texture or a formula."""
    kind = what.random()
    if kind < 0.3:
        flat = what.uniform(0, 1, 3) + how.normal(0, 0.04, 3)
        return np.broadcast_to(flat.astype(np.float32), (side, side, 3))
    if kind < 0.5:
        x, y = grid(side, how, 0.5)
        t = (what.normal() * x + what.normal() * y)[..., None]
        first, second = what.uniform(0, 1, (2, 3))
        return (first + (second - first) * (np.tanh(t) + 1) / 2).astype(np.float32)
    make = texture if kind < 0.65 else generated if kind < 0.85 else formula
    return make(what, how, side)


def leaves(what: Generator, how: Generator, side: int) -> Picture:
    """Draw shapes over shapes, few large and many small (Lee, Mumford and Huang, IJCV 2001)."""
    picture = np.array(_filling(what, how, side), dtype=np.float32)
    kinds = [int(seed) for seed in what.integers(2**31, size=int(what.integers(1, 5)))]
    for _ in range(int(what.integers(8, 40))):
        seed = kinds[int(how.integers(len(kinds)))]
        leaf = np.random.default_rng(seed)
        size = side * min(0.5, 0.04 / how.uniform(0.02, 1) ** 0.6)
        points = _outline(leaf, how, size) + how.uniform(0, side, 2)
        # Only the part that the shape can cover: most shapes are small.
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
    """Return a background, often out of focus."""
    ground = np.array(_filling(how, how, side), dtype=np.float32)
    if how.random() < 0.5:
        small = max(4, int(side / how.uniform(2, 12)))
        image = Image.fromarray(np.uint8(255 * np.clip(ground, 0, 1)))
        image = image.resize((small, small), Image.Resampling.BOX)
        image = image.resize((side, side), Image.Resampling.BICUBIC)
        ground = np.asarray(image, dtype=np.float32) / 255
    return ground


def body(what: Generator, how: Generator, side: int) -> Picture:
    """Draw an object of a few lit, textured parts before a background."""
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
    """Return the brightness of a rounded body with this outline, by Lambert's law."""
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
    """Draw an iterated function system: where random maps, applied in turn, lead many points."""
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
    """Draw strokes on paper: curves, hatching and outlines."""
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
