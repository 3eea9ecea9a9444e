"""Draw the sample dataset: five breeds of cats, which differ in their coats alone.

Everything else (pose, place, size, colours, background, light, image format) is drawn from the same
distribution for every breed, so that neither mean colour nor image size gives a breed away. The
drawings depend on the seed alone:

    python sample_data/draw_cats.py [OUTPUT]
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cat_shapes import POSES, Array, Cat, Point, ragged
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

BREEDS = ("Bengal", "Domestic_Shorthair", "Maine_Coon", "Ragdoll", "Siamese")
PER_BREED = 30
SEED = 20240607

_OVERSAMPLING = 2


def smooth_noise(size: tuple[int, int], cells: float, random: Generator) -> Array:
    """Return (H, W) soft noise in 0..1 with about `cells` blobs along the longer side."""
    step = max(size) / cells
    grid = (max(2, round(size[1] / step) + 2), max(2, round(size[0] / step) + 2))
    coarse = Image.fromarray((random.random(grid) * 255).astype(np.uint8))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float64) / 255


def bengal(cat: Cat, random: Generator) -> Array:
    """Rosettes all over."""
    mask = Image.new("L", cat.size)
    pen = ImageDraw.Draw(mask)
    spacing = cat.unit * random.uniform(0.085, 0.105)
    for row in range(int(cat.size[1] / spacing) + 1):
        for column in range(int(cat.size[0] / spacing) + 1):
            x = (column + 0.5 * (row % 2) + random.uniform(-0.18, 0.18)) * spacing
            y = (row + random.uniform(-0.18, 0.18)) * spacing
            rx, ry = spacing * random.uniform(0.33, 0.44, 2)
            pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=255)
            if random.random() < 0.5:
                pen.ellipse((x - rx / 2, y - ry / 2, x + rx / 2, y + ry / 2), fill=90)
    return np.asarray(mask, dtype=np.float64) / 255


def domestic_shorthair(cat: Cat, random: Generator) -> Array:
    """Stripes across, those on the brow towards the nose."""
    y, x = np.mgrid[0 : cat.size[1], 0 : cat.size[0]] / cat.unit
    tilt, period = random.uniform(-0.35, 0.35), random.uniform(0.075, 0.095)
    bend = 0.9 * period * smooth_noise(cat.size, 6, random)
    across = np.sin(2 * math.pi * (x + tilt * y + bend) / period)
    return np.clip(0.45 + 2.2 * (across + 0.15), 0, 1)


def maine_coon(cat: Cat, random: Generator) -> Array:
    """Long strands of hair."""
    mask = Image.new("L", cat.size)
    pen = ImageDraw.Draw(mask)
    flow = random.uniform(0.9, 1.4)
    for _ in range(int(2.3 * cat.size[0] * cat.size[1] / (cat.unit * 0.09) ** 2)):
        x, y = random.random(2) * cat.size
        angle, reach = flow + random.normal(0, 0.25), cat.unit * random.uniform(0.06, 0.13)
        end = (x + reach * math.cos(angle), y + reach * math.sin(angle))
        width = max(1, round(cat.unit * random.uniform(0.006, 0.014)))
        pen.line((x, y, *end), fill=int(random.uniform(150, 255)), width=width)
    return np.asarray(mask, dtype=np.float64) / 255


def ragdoll(cat: Cat, random: Generator) -> Array:
    """Two large patches, and an inverted V left plain on the face."""
    patches = smooth_noise(cat.size, 2.6, random)
    colour = np.clip((patches - np.median(patches)) * 30 + 0.5, 0, 1)
    middle = cat.head
    blaze = Image.new("L", cat.size)
    r = cat.head_radius
    corners = [
        (middle[0], middle[1] - 0.75 * r),
        (middle[0] + 0.75 * r, middle[1] + r),
        (middle[0] - 0.75 * r, middle[1] + r),
    ]
    ImageDraw.Draw(blaze).polygon([cat.place(corner) for corner in corners], fill=255)
    head = cat.mask("head", "ears")
    colour = np.where(head > 0.5, 1.0, colour)
    plain = np.maximum(np.asarray(blaze, dtype=np.float64) / 255, cat.mask("chest", "paws"))
    return colour * (1 - plain)


def siamese(cat: Cat, random: Generator) -> Array:
    """Points: face, ears, paws and tail."""
    points = np.maximum(cat.mask("face"), np.maximum(cat.mask("ears", "tail"), cat.mask("paws")))
    soft = Image.fromarray((points * 255).astype(np.uint8))
    soft = soft.filter(ImageFilter.GaussianBlur(cat.unit * random.uniform(0.02, 0.03)))
    shade = 0.25 * smooth_noise(cat.size, 3, random)
    return np.maximum(np.asarray(soft, dtype=np.float64) / 255, shade)


COATS: dict[str, Callable[[Cat, Generator], Array]] = {
    "Bengal": bengal,
    "Domestic_Shorthair": domestic_shorthair,
    "Maine_Coon": maine_coon,
    "Ragdoll": ragdoll,
    "Siamese": siamese,
}


def colour_between(low: float, high: float, random: Generator) -> Array:
    """Return a muted colour (3,) of a brightness between two values of 0..1."""
    tint = random.normal(0, 0.07, 3)
    return np.clip(random.uniform(low, high) + tint + np.array([0.04, 0.0, -0.05]), 0.03, 0.97)


def background(size: tuple[int, int], random: Generator) -> Array:
    """Return (H, W, 3): a room, a meadow, a plain gradient or rough noise, of any colour."""
    top, bottom, third = (np.clip(random.random(3) * 0.9 + 0.05, 0, 1) for _ in range(3))
    y = np.linspace(0, 1, size[1])[:, None, None]
    picture = np.broadcast_to(top * (1 - y) + bottom * y, (size[1], size[0], 3)).copy()
    kind = random.integers(4)
    if kind == 0:
        floor = int(size[1] * random.uniform(0.55, 0.85))
        picture[floor:] = third
        left, wide = random.uniform(0, 0.7) * size[0], random.uniform(0.15, 0.3) * size[0]
        picture[int(0.1 * floor) : int(0.6 * floor), int(left) : int(left + wide)] = random.random(
            3
        )
    elif kind == 1:
        horizon = int(size[1] * random.uniform(0.3, 0.7))
        blades = smooth_noise(size, max(size) / 4, random)[:, :, None]
        picture[horizon:] = (third * (0.6 + 0.6 * blades))[horizon:]
    elif kind == 2:
        mixed = smooth_noise(size, random.uniform(3, 40), random)[:, :, None]
        picture = top * mixed + third * (1 - mixed)
    return np.clip(picture, 0, 1)


def features(cat: Cat, picture: Image.Image, dark: bool, random: Generator) -> None:
    """Draw eyes, nose, mouth and whiskers."""
    pen = ImageDraw.Draw(picture)
    x, y, r = *cat.head, cat.head_radius
    eye = tuple(int(c) for c in random.choice([[90, 150, 220], [210, 170, 50], [110, 180, 90]]))
    line = (235, 235, 235) if dark else (30, 25, 25)

    def oval(middle: Point, rx: float, ry: float, fill: tuple[int, ...]) -> None:
        (px, py), u = cat.place(middle), cat.unit
        pen.ellipse((px - rx * u, py - ry * u, px + rx * u, py + ry * u), fill=fill)

    for side in (-1, 1):
        oval((x + side * 0.42 * r, y - 0.02 * r), 0.2 * r, 0.19 * r, (20, 18, 18))
        oval((x + side * 0.42 * r, y - 0.02 * r), 0.17 * r, 0.16 * r, eye)
        oval((x + side * 0.42 * r, y - 0.02 * r), 0.06 * r, 0.14 * r, (10, 10, 10))
        for lift in (-0.12, 0.05, 0.2):
            near = (x + side * 0.3 * r, y + 0.5 * r)
            far = (x + side * 1.25 * r, y + (0.45 + lift) * r)
            pen.line(
                (*cat.place(near), *cat.place(far)), fill=line, width=max(1, round(cat.unit / 250))
            )
    nose = ((x - 0.11 * r, y + 0.3 * r), (x + 0.11 * r, y + 0.3 * r), (x, y + 0.45 * r))
    pen.polygon([cat.place(corner) for corner in nose], fill=(190, 110, 110))
    pen.line(
        (*cat.place((x, y + 0.45 * r)), *cat.place((x, y + 0.6 * r))), fill=(40, 30, 30), width=2
    )


def new_cat(size: tuple[int, int], long_haired: bool, random: Generator) -> Cat:
    """Return an empty cat, placed, scaled, turned and perhaps mirrored on the canvas."""
    unit = min(size) * random.uniform(0.88, 1.08)
    turn = random.normal(0, 0.08)
    mirror = random.choice([-1.0, 1.0])
    slack = np.maximum(np.array(size) - unit, 0)
    middle = (
        np.array(size) / 2 + slack * random.uniform(-0.4, 0.4, 2) + random.normal(0, 0.02, 2) * unit
    )

    def place(point: Point) -> Point:
        x, y = mirror * (point[0] - 0.5), point[1] - 0.5
        return (
            float(middle[0] + unit * (x * math.cos(turn) - y * math.sin(turn))),
            float(middle[1] + unit * (x * math.sin(turn) + y * math.cos(turn))),
        )

    return Cat(size, place, float(unit), long_haired=long_haired)


def paint(cat: Cat, coat: Array, random: Generator) -> Image.Image:
    """Lay a coat over the cat's silhouette, on a background, in some light."""
    light_first = random.random() < 0.5
    plain, marked = colour_between(0.62, 0.92, random), colour_between(0.08, 0.36, random)
    if not light_first:
        plain, marked = marked, plain
    fur = (1 - coat[:, :, None]) * plain + coat[:, :, None] * marked
    fur += 0.05 * (smooth_noise(cat.size, max(cat.size) / 3, random)[:, :, None] - 0.5)
    picture = background(cat.size, random)
    for name in ("tail", "body", "chest", "paws", "ears", "head"):
        if name not in cat.parts:
            continue
        mask = cat.parts[name]
        # A darker rim sets each part off from the one behind it.
        rim = mask.filter(ImageFilter.MaxFilter(2 * round(cat.unit / 160) + 1))
        for silhouette, shade in ((rim, 0.55), (mask, 1.0)):
            if name == "chest" and shade < 1:
                continue
            cover = np.asarray(silhouette, dtype=np.float64)[:, :, None] / 255
            picture = picture * (1 - cover) + shade * fur * cover
    drawing = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    features(cat, drawing, not light_first, random)
    return drawing


def expose(drawing: Image.Image, random: Generator) -> Image.Image:
    """Light from one side, a colour cast, some blur and grain."""
    size = (drawing.width // _OVERSAMPLING, drawing.height // _OVERSAMPLING)
    drawing = drawing.resize(size, Image.Resampling.LANCZOS)
    drawing = drawing.filter(ImageFilter.GaussianBlur(random.uniform(0, 0.7)))
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / max(size)
    angle = random.uniform(0, 2 * math.pi)
    light = 1 + random.uniform(0, 0.35) * (x * math.cos(angle) + y * math.sin(angle))
    cast = random.uniform(0.85, 1.12, 3) * random.uniform(0.75, 1.1)
    pixels = np.asarray(drawing, dtype=np.float64) * light[:, :, None] * cast
    pixels += random.normal(0, random.uniform(0, 5), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def draw_cat(breed: str, number: int) -> Image.Image:
    """Draw a cat; breed and number are the seed."""
    random = np.random.default_rng((SEED, BREEDS.index(breed), number))
    short, aspect = random.integers(150, 231), math.exp(random.uniform(-0.4, 0.4))
    width, height = (short, round(short / aspect)) if aspect < 1 else (round(short * aspect), short)
    size = (int(width) * _OVERSAMPLING, int(height) * _OVERSAMPLING)
    cat = new_cat(size, breed == "Maine_Coon", random)
    POSES[number % len(POSES)](cat, random)
    if cat.long_haired:
        ragged(cat, random)
    return expose(paint(cat, COATS[breed](cat, random), random), random)


def draw_all(output: Path, per_breed: int = PER_BREED) -> None:
    """Write the dataset, one folder per breed."""
    for breed in BREEDS:
        (output / breed).mkdir(parents=True, exist_ok=True)
        for number in range(per_breed):
            quality = 75 + (7 * number) % 15
            path = output / breed / f"{breed}_{number + 1:02}.jpg"
            draw_cat(breed, number).save(path, quality=quality)


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "cats")
