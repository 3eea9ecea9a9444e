"""The shape of a cat: its parts as masks, in four poses."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Array = NDArray[np.float64]
Point = tuple[float, float]


@dataclass
class Cat:
    """The silhouettes of a cat's parts, each a mask of the canvas's size.

    Attributes:
        size: (width, height) of the canvas in pixels.
        place: Maps the cat's own coordinates, 0 to 1 in both directions, to pixels.
        unit: Pixels in a length of 1.
        parts: Name -> mask; body, head, ears, paws, tail, face and chest.
        head: Middle of the head, in the cat's coordinates.
        head_radius: Its radius there.
        long_haired: Whether outlines are ragged.
    """

    size: tuple[int, int]
    place: Callable[[Point], Point]
    unit: float
    head: Point = (0.5, 0.3)
    head_radius: float = 0.2
    long_haired: bool = False
    parts: dict[str, Image.Image] = field(default_factory=dict)

    def part(self, name: str) -> ImageDraw.ImageDraw:
        """A pen on the mask of a part."""
        mask = self.parts.setdefault(name, Image.new("L", self.size))
        return ImageDraw.Draw(mask)

    def mask(self, *names: str) -> Array:
        """(H, W) in 0..1: the union of some parts."""
        union = Image.new("L", self.size)
        for name in names:
            union = ImageChops.lighter(union, self.parts.get(name, Image.new("L", self.size)))
        return np.asarray(union, dtype=np.float64) / 255

    def ellipse(self, name: str, middle: Point, rx: float, ry: float, turn: float = 0.0) -> None:
        """Add an ellipse with these radii, turned by `turn` radians, to a part."""
        corners = []
        for angle in np.linspace(0, 2 * math.pi, 48, endpoint=False):
            x, y = rx * math.cos(angle), ry * math.sin(angle)
            corners.append(
                self.place(
                    (
                        middle[0] + x * math.cos(turn) - y * math.sin(turn),
                        middle[1] + x * math.sin(turn) + y * math.cos(turn),
                    )
                )
            )
        self.part(name).polygon(corners, fill=255)

    def polygon(self, name: str, corners: Sequence[Point]) -> None:
        """Add a polygon to a part."""
        self.part(name).polygon([self.place(corner) for corner in corners], fill=255)

    def curve(self, name: str, bend: Sequence[Point], width: float, tip: float) -> None:
        """Add a quadratic curve that narrows from `width` to `tip`."""
        pen, points = self.part(name), np.array(bend)
        for t in np.linspace(0, 1, 41):
            weights = np.array([(1 - t) ** 2, 2 * t * (1 - t), t**2])
            x, y = self.place(tuple(weights @ points))
            radius = self.unit * (width + (tip - width) * t) / 2
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def draw_head(cat: Cat, middle: Point, radius: float) -> None:
    """Add head, ears and face around a point."""
    x, y = middle
    cat.head, cat.head_radius = middle, radius
    cat.ellipse("head", middle, radius, 0.9 * radius)
    cat.ellipse("head", (x, y + 0.35 * radius), 0.75 * radius, 0.6 * radius)
    cat.ellipse("face", (x, y + 0.3 * radius), 0.62 * radius, 0.66 * radius)
    for side in (-1, 1):
        outer, inner = (
            (x + side * 0.98 * radius, y - 0.1 * radius),
            (x + side * 0.12 * radius, y - 0.78 * radius),
        )
        tip = (x + side * 0.92 * radius, y - 1.5 * radius)
        cat.polygon("ears", (outer, tip, inner))
        if cat.long_haired:
            tuft = (x + side * 1.0 * radius, y - 1.85 * radius)
            cat.polygon(
                "ears",
                (
                    (tip[0] - 0.1 * radius, tip[1] + 0.2 * radius),
                    tuft,
                    (tip[0] + 0.1 * radius, tip[1] + 0.25 * radius),
                ),
            )


def pose_sitting(cat: Cat, random: Generator) -> None:
    """Sitting, seen from the front."""
    bushy = 0.2 if cat.long_haired else 0.085
    sway = random.uniform(-0.04, 0.04)
    cat.curve(
        "tail", ((0.68, 0.9), (1.0, 0.9), (0.92, random.uniform(0.45, 0.62))), bushy, bushy * 0.7
    )
    cat.ellipse("body", (0.5, 0.7), 0.27, 0.28)
    cat.ellipse("body", (0.5, 0.56), 0.2, 0.22)
    cat.ellipse("chest", (0.5, 0.6), 0.12, 0.18)
    for x in (0.42, 0.58):
        cat.polygon(
            "body", ((x - 0.055, 0.62), (x + 0.055, 0.62), (x + 0.05, 0.95), (x - 0.05, 0.95))
        )
        cat.ellipse("paws", (x, 0.94), 0.07, 0.055)
    for x in (0.28, 0.72):
        cat.ellipse("paws", (x, 0.94), 0.09, 0.05)
    draw_head(cat, (0.5 + sway, 0.32), random.uniform(0.19, 0.225))


def pose_lying(cat: Cat, random: Generator) -> None:
    """Lying, seen from the side."""
    bushy = 0.19 if cat.long_haired else 0.08
    cat.curve("tail", ((0.88, 0.78), (1.02, 0.95), (0.62, 0.93)), bushy, bushy * 0.7)
    cat.ellipse("body", (0.58, 0.68), 0.37, 0.22)
    cat.ellipse("body", (0.76, 0.68), 0.2, 0.23)
    cat.ellipse("chest", (0.31, 0.72), 0.12, 0.15)
    for x in (0.2, 0.36):
        cat.ellipse("paws", (x, 0.88), 0.11, 0.05)
    draw_head(cat, (0.28, random.uniform(0.44, 0.5)), random.uniform(0.18, 0.215))


def pose_walking(cat: Cat, random: Generator) -> None:
    """Walking, seen from the side."""
    bushy = 0.19 if cat.long_haired else 0.075
    cat.curve(
        "tail", ((0.85, 0.5), (1.02, 0.4), (random.uniform(0.9, 1.0), 0.12)), bushy, bushy * 0.7
    )
    cat.ellipse("body", (0.58, 0.57), 0.34, 0.18)
    cat.ellipse("chest", (0.3, 0.6), 0.1, 0.13)
    for x in (0.32, 0.44, 0.72, 0.84):
        step = random.uniform(-0.05, 0.05)
        cat.polygon(
            "body",
            ((x - 0.055, 0.6), (x + 0.055, 0.6), (x + step + 0.04, 0.93), (x + step - 0.04, 0.93)),
        )
        cat.ellipse("paws", (x + step - 0.015, 0.91), 0.065, 0.06)
    draw_head(cat, (0.24, random.uniform(0.36, 0.42)), random.uniform(0.17, 0.2))


def pose_portrait(cat: Cat, random: Generator) -> None:
    """Head and shoulders, close."""
    cat.ellipse("body", (0.5, 1.05), 0.47, 0.42)
    cat.ellipse("chest", (0.5, 0.98), 0.2, 0.25)
    cat.curve("tail", ((0.9, 1.0), (1.08, 0.8), (0.95, 0.5)), 0.15, 0.1)
    draw_head(cat, (0.5 + random.uniform(-0.05, 0.05), 0.5), random.uniform(0.31, 0.36))


POSES = (pose_sitting, pose_lying, pose_walking, pose_portrait)


def ragged(cat: Cat, random: Generator) -> None:
    """Give the outlines of a long-haired cat a fringe of hair."""
    for name, length in (("body", 0.075), ("tail", 0.07), ("head", 0.055), ("chest", 0.08)):
        if name not in cat.parts:
            continue
        mask = cat.parts[name]
        edge = np.argwhere(np.asarray(mask.filter(ImageFilter.FIND_EDGES)) > 128)
        middle = edge.mean(axis=0)
        pen = ImageDraw.Draw(mask)
        for y, x in edge[random.permutation(len(edge))[: len(edge) // 3]]:
            away = math.atan2(y - middle[0], x - middle[1]) + random.normal(0, 0.4)
            reach = cat.unit * length * random.uniform(0.4, 1.2)
            end = (x + reach * math.cos(away), y + reach * (math.sin(away) + 0.5))
            pen.line((float(x), float(y), *end), fill=255, width=max(2, round(cat.unit * 0.01)))
