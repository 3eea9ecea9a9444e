"""Random augmentation of training images: crops, mirroring, colour, TrivialAugment.

Random numbers come from the generator passed in, so they do not depend on threads or order. This
module imports neither torch nor timm.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

from PIL import Image, ImageEnhance, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator


class Augment(StrEnum):
    """Strength of the augmentation of training images.

    `light`: a random crop of 35 % or more of the area, mirroring, and slight changes of brightness,
    contrast and saturation. `strong`: one random TrivialAugment operation in addition.
    """

    NONE = "none"
    LIGHT = "light"
    STRONG = "strong"


_CROP_AREA = (0.35, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
_CROP_LOG_ASPECT = (math.log(3 / 4), math.log(4 / 3))
_JITTER = 0.2

Colour = tuple[int, ...]


def augmented(
    size: tuple[int, int],
    scaled: Callable[[tuple[int, int, int, int]], Image.Image],
    *,
    augment: Augment,
    ground: Colour,
    random: Generator,
) -> Image.Image:
    """Return a random view of an image.

    Args:
        size: (width, height) of the image in pixels.
        scaled: `scaled((left, top, right, bottom))` returns that part of the image as an RGB image
            of the view's size.
        augment: Light or strong.
        ground: Colour of the area outside the image.
        random: Source of all random numbers.
    """
    image = scaled(random_crop_box(*size, random))
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    if augment is Augment.STRONG:
        image = _trivial_augment(image, random, ground)
    return _jitter(image, random)


def random_crop_box(width: int, height: int, random: Generator) -> tuple[int, int, int, int]:
    """Return a random crop box of an image: (left, top, right, bottom) in pixels.

    Area and aspect ratio are drawn as in Szegedy et al., Going Deeper with Convolutions, CVPR 2015,
    section 6, but with an area of 35 % or more, because smaller crops lose the subject in small
    datasets. If no drawn box fits into a narrow image, the result is the largest central box with
    an allowed aspect ratio.
    """
    for _ in range(10):
        area = width * height * random.uniform(*_CROP_AREA)
        aspect = math.exp(random.uniform(*_CROP_LOG_ASPECT))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = int(random.integers(0, width - w + 1))
            top = int(random.integers(0, height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * _CROP_ASPECT[1])))
    h = min(height, max(1, round(width / _CROP_ASPECT[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _jitter(image: Image.Image, random: Generator) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(random.uniform(1 - _JITTER, 1 + _JITTER))
    return image


def _trivial_augment(image: Image.Image, random: Generator, ground: Colour) -> Image.Image:
    # Müller and Hutter, TrivialAugment, ICCV 2021: one operation and its strength, both uniform.
    strength = random.uniform(-1, 1)
    operation = random.integers(10)
    x, y = image.width * strength, image.height * strength
    match operation:
        case 0:
            return image
        case 1:
            return image.rotate(45 * strength, Image.Resampling.BILINEAR, fillcolor=ground)
        case 2:
            return _shift(image, (1, 0.5 * strength, -0.25 * x, 0, 1, 0), ground)
        case 3:
            return _shift(image, (1, 0, 0, 0.5 * strength, 1, -0.25 * y), ground)
        case 4:
            return _shift(image, (1, 0, 0.25 * x, 0, 1, 0), ground)
        case 5:
            return _shift(image, (1, 0, 0, 0, 1, 0.25 * y), ground)
        case 6:
            return ImageOps.posterize(image, 8 - round(5 * abs(strength)))
        case 7:
            return ImageOps.solarize(image, 255 - round(200 * abs(strength)))
        case 8:
            return ImageEnhance.Sharpness(image).enhance(1 + 0.9 * strength)
        case _:
            return ImageOps.autocontrast(image)


def _shift(image: Image.Image, matrix: tuple[float, ...], ground: Colour) -> Image.Image:
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BILINEAR,
        fillcolor=ground,
    )
