"""The callables built from a `Preprocessing` record: picture in, pixels out.

All end in uint8; `normalize` turns a batch into what the network reads, once for all its pictures.
Randomness comes from the generator that is handed in, so it does not depend on threads.
"""

from collections.abc import Callable
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from timm.data import create_transform
from torch import Tensor

from transferkit.data.preprocessing import Preprocessing

Transform = Callable[[Image.Image, np.random.Generator], NDArray[np.uint8]]
"""RGB picture and randomness to (3, H, W) uint8."""


class Augment(StrEnum):
    """How strongly training pictures are varied.

    `light`: a random crop of 35 % or more, mirroring, slight changes of brightness, contrast and
    saturation. `strong`: one random TrivialAugment operation besides.
    """

    NONE = "none"
    LIGHT = "light"
    STRONG = "strong"


_INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_CROP_AREA = (0.35, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
_JITTER = 0.2


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """The fixed transform of validation, extraction and prediction: timm's own."""
    transform = create_transform(
        **preprocessing.to_config(),
        is_training=False,
        use_prefetcher=True,  # timm's word for: leave uint8, normalisation comes per batch
    )

    def apply(image: Image.Image, random: np.random.Generator) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = transform(image)
        return pixels

    return apply


def train_transform(preprocessing: Preprocessing, augment: Augment) -> Transform:
    """The transform of training pictures, random unless `augment` is none."""
    if augment is Augment.NONE:
        return eval_transform(preprocessing)
    _, height, width = preprocessing.input_size
    resampling = _INTERPOLATION.get(preprocessing.interpolation, Image.Resampling.BICUBIC)
    ground = tuple(round(255 * channel) for channel in preprocessing.mean)

    def apply(image: Image.Image, random: np.random.Generator) -> NDArray[np.uint8]:
        if preprocessing.crop_mode == "border":
            side = max(image.size)
            image = ImageOps.pad(image, (side, side), color=ground)
        box = random_crop_box(image.width, image.height, random)
        image = image.resize((width, height), resampling, box=box)
        if random.random() < 0.5:
            image = ImageOps.mirror(image)
        if augment is Augment.STRONG:
            image = _trivial_augment(image, random, ground)
        return _channels_first(_jitter(image, random))

    return apply


def random_crop_box(
    width: int, height: int, random: np.random.Generator
) -> tuple[int, int, int, int]:
    """A random part of a picture: (left, top, right, bottom) in pixels.

    Area and aspect are drawn as in Szegedy et al., Going Deeper with Convolutions, CVPR 2015,
    section 6, but with an area of 35 % or more: small datasets lose the subject in smaller crops.
    A picture too narrow for any drawn aspect gives the largest middle part with an allowed one.
    """
    for _ in range(10):
        area = width * height * random.uniform(*_CROP_AREA)
        aspect = np.exp(random.uniform(*np.log(_CROP_ASPECT)))
        w, h = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.integers(0, width - w + 1), random.integers(0, height - h + 1)
            return int(left), int(top), int(left) + w, int(top) + h
    w = min(width, max(1, round(height * _CROP_ASPECT[1])))
    h = min(height, max(1, round(width / _CROP_ASPECT[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn (B, 3, H, W) uint8 into the float32 that the network was trained on.

    Returns:
        (B, 3, H, W) float32 on the device of `pixels`: (pixels / 255 - mean) / std.
    """
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(1, -1, 1, 1)
    return (pixels.float() / 255 - mean) / std


def _channels_first(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image).transpose(2, 0, 1)


def _jitter(image: Image.Image, random: np.random.Generator) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(random.uniform(1 - _JITTER, 1 + _JITTER))
    return image


def _trivial_augment(
    image: Image.Image, random: np.random.Generator, ground: tuple[int, ...]
) -> Image.Image:
    # Müller and Hutter, TrivialAugment, ICCV 2021: one operation, its strength, both uniform.
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


def _shift(
    image: Image.Image, matrix: tuple[float, ...], ground: tuple[int, ...]
) -> Image.Image:
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BILINEAR,
        fillcolor=ground,
    )
