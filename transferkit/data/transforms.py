"""The callables built from a `Preprocessing` record: picture in, pixels out.

All end in uint8; `normalize` turns a batch into what the network reads, once for all its pictures.
Randomness comes from the generator that is handed in, so it does not depend on threads.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageOps
from timm.data import create_transform
from torch import Tensor

from transferkit.data.augment import Augment, augmented
from transferkit.data.preprocessing import Preprocessing
from transferkit.data.resizing import Pixels, resizer

_ROOM = 1.5
"""Short side of a picture that is going to be varied, as a multiple of the network's."""


@dataclass(frozen=True)
class Transform:
    """RGB picture and randomness to (3, H, W) uint8, in two steps.

    Attributes:
        needed: How many pixels the shorter side of a picture is scaled to; more may be left out
            where it is decoded.
        prepare: Picture to (H, W, 3) uint8, always the same: this step can be kept.
        vary: This and randomness to (H, W, 3) uint8 of the network's size.
    """

    needed: int
    prepare: Callable[[Image.Image], Pixels]
    vary: Callable[[Pixels, Generator], Pixels]

    def __call__(self, image: Image.Image, random: Generator) -> NDArray[np.uint8]:
        """Both steps, to (3, H, W)."""
        return self.vary(self.prepare(image), random).transpose(2, 0, 1)


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """The fixed transform of validation, extraction and prediction: what timm's own does."""
    _, height, width = preprocessing.input_size
    needed = math.ceil(max(height, width) / preprocessing.crop_pct)
    central = preprocessing.crop_mode == "center" and height == width
    prepare = _central_crop(preprocessing) if central else _timms_own(preprocessing)
    return Transform(needed, prepare, lambda pixels, _: pixels)


def _central_crop(preprocessing: Preprocessing) -> Callable[[Image.Image], Pixels]:
    _, side, _ = preprocessing.input_size
    short = math.floor(side / preprocessing.crop_pct)
    resize = resizer(preprocessing.interpolation)

    def apply(image: Image.Image) -> Pixels:
        width, height = _with_short_side(image.size, short)
        pixels = resize(np.asarray(image), (0, 0, *image.size), (height, width))
        # Rounded as torchvision's CenterCrop does.
        top, left = round((height - side) / 2), round((width - side) / 2)
        return pixels[top : top + side, left : left + side]

    return apply


def _timms_own(preprocessing: Preprocessing) -> Callable[[Image.Image], Pixels]:
    transform = create_transform(
        **preprocessing.to_config(),
        is_training=False,
        use_prefetcher=True,  # timm's word for: leave uint8, normalisation comes per batch
    )
    # A tensor or an array, by timm's version.
    return lambda image: np.asarray(transform(image)).transpose(1, 2, 0)


def train_transform(preprocessing: Preprocessing, augment: Augment) -> Transform:
    """The transform of training pictures, random unless `augment` is none."""
    if augment is Augment.NONE:
        return eval_transform(preprocessing)
    _, height, width = preprocessing.input_size
    needed = math.ceil(_ROOM * max(height, width))
    resize = resizer(preprocessing.interpolation)
    ground = tuple(round(255 * channel) for channel in preprocessing.mean)

    def prepare(image: Image.Image) -> Pixels:
        if preprocessing.crop_mode == "border":
            side = max(image.size)
            image = ImageOps.pad(image, (side, side), color=ground)
        pixels = np.asarray(image)
        if min(image.size) <= needed:
            return pixels
        smaller = _with_short_side(image.size, needed)
        return resize(pixels, (0, 0, *image.size), smaller[::-1])

    def vary(pixels: Pixels, random: Generator) -> Pixels:
        view = augmented(
            (pixels.shape[1], pixels.shape[0]),
            lambda box: Image.fromarray(resize(pixels, box, (height, width))),
            augment=augment,
            ground=ground,
            random=random,
        )
        return np.asarray(view)

    return Transform(needed, prepare, vary)


def _with_short_side(size: tuple[int, int], short: int) -> tuple[int, int]:
    """(width, height) in the same proportion, rounded as torchvision's Resize does."""
    width, height = size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn (B, 3, H, W) uint8 into the float32 that the network was trained on.

    Returns:
        (B, 3, H, W) float32 on the device of `pixels`: (pixels / 255 - mean) / std.
    """
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(1, -1, 1, 1)
    images = pixels.contiguous(memory_format=torch.channels_last).float()
    return images.div_(255).sub_(mean).div_(std)
