"""Transforms built from a `Preprocessing` record: image in, pixels out.

All of them return uint8; `normalize` then converts a whole batch to the network's input. Random
numbers come from the generator passed in, so they do not depend on threads.
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

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R BT.601, as in pillow's mode L."""

_ROOM = 1.5
"""Short side of an image before augmentation, as a multiple of the network's input side."""


@dataclass(frozen=True)
class Transform:
    """A fixed and a random step that turn an RGB image into (3, H, W) uint8.

    Attributes:
        needed: Length in pixels that the shorter side is scaled to; decoding may drop detail beyond
            it.
        prepare: Fixed step from an image to (H, W, 3) uint8, whose result can be cached.
        vary: Random step from that result to (H, W, 3) uint8 of the network's input size.
    """

    needed: int
    prepare: Callable[[Image.Image], Pixels]
    vary: Callable[[Pixels, Generator], Pixels]

    def __call__(self, image: Image.Image, random: Generator) -> NDArray[np.uint8]:
        """Apply both steps and return (3, H, W) uint8."""
        return self.vary(self.prepare(image), random).transpose(2, 0, 1)


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Return the fixed transform for validation, extraction and prediction, equal to timm's."""
    _, height, width = preprocessing.input_size
    needed = math.ceil(max(height, width) / preprocessing.crop_pct)
    central = (
        preprocessing.crop_mode == "center" and height == width and preprocessing.crop_pct <= 1
    )
    prepare = _central_crop(preprocessing) if central else _timms_own(preprocessing)
    return Transform(needed, prepare, lambda pixels, _: pixels)


def _central_crop(preprocessing: Preprocessing) -> Callable[[Image.Image], Pixels]:
    _, side, _ = preprocessing.input_size
    short = math.floor(side / preprocessing.crop_pct)
    resize = resizer(preprocessing.interpolation)

    def apply(image: Image.Image) -> Pixels:
        width, height = _with_short_side(image.size, short)
        pixels = resize(np.asarray(image), (0, 0, *image.size), (height, width))
        # Rounds like torchvision's CenterCrop.
        top, left = round((height - side) / 2), round((width - side) / 2)
        return pixels[top : top + side, left : left + side]

    return apply


def _timms_own(preprocessing: Preprocessing) -> Callable[[Image.Image], Pixels]:
    # In RGB whatever the network takes: `normalize` makes one channel of three.
    colours = tuple(value / 255 for value in preprocessing.mean_colour)
    _, height, width = preprocessing.input_size
    transform = create_transform(
        **preprocessing.to_config() | {"input_size": (3, height, width), "mean": colours},
        is_training=False,
        use_prefetcher=True,  # timm's name for: keep uint8, normalise per batch
    )
    # The result is a tensor or an array, depending on timm's version.
    return lambda image: np.asarray(transform(image)).transpose(1, 2, 0)


def train_transform(preprocessing: Preprocessing, augment: Augment) -> Transform:
    """Return the transform for training images, random unless `augment` is none."""
    if augment is Augment.NONE:
        return eval_transform(preprocessing)
    _, height, width = preprocessing.input_size
    needed = math.ceil(_ROOM * max(height, width))
    resize = resizer(preprocessing.interpolation)
    ground = preprocessing.mean_colour

    def prepare(image: Image.Image) -> Pixels:
        if preprocessing.crop_mode == "border":
            image = ImageOps.pad(image, _padded_size(image.size, height, width), color=ground)
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
    """Return (width, height) scaled to a short side, rounded like torchvision's Resize."""
    width, height = size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _padded_size(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Return the smallest (width, height) around an image with the shape height x width."""
    scale = max(size[0] / width, size[1] / height)
    return max(size[0], round(scale * width)), max(size[1], round(scale * height))


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalise a batch of pixels (B, 3, H, W) uint8 for the network.

    Returns:
        (pixels / 255 - mean) / std as (B, C, H, W) float32, on the device of `pixels`. For a
        network of one channel the pixels are first converted to luma (ITU-R BT.601).
    """
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(1, -1, 1, 1)
    images = pixels.contiguous(memory_format=torch.channels_last).float()
    if len(preprocessing.mean) == 1:
        luma = torch.tensor(_LUMA, device=pixels.device).view(1, -1, 1, 1)
        images = (images * luma).sum(dim=1, keepdim=True)
    return images.div_(255).sub_(mean).div_(std)
