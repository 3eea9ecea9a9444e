"""Transforms built from a `Preprocessing` record: image in, pixels out.

Pillow does the resizing everywhere, so training, prediction, timm and an exported model see the
same pixels. Random numbers come from the generator passed in, so they do not depend on threads.
Importing this module does not import torch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageOps

from transferkit.data.augment import Augment, augmented
from transferkit.data.preprocessing import Preprocessing

Pixels = NDArray[np.uint8]
"""(H, W, 3) uint8."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Pillow's filters by timm's names."""

_ROOM = 1.5
"""Short side of an image before augmentation, as a multiple of the network's input side."""


@dataclass(frozen=True)
class Transform:
    """A fixed and a random step that turn an RGB image into (H, W, 3) uint8.

    Attributes:
        needed: Length in pixels that the shorter side is scaled to; decoding may drop detail beyond
            it.
        prepare: Fixed step from an image to (H, W, 3) uint8, whose result can be cached.
        vary: Random step from that result to (H, W, 3) uint8 of the network's input size.
    """

    needed: int
    prepare: Callable[[Image.Image], Pixels]
    vary: Callable[[Pixels, Generator], Pixels]

    def __call__(self, image: Image.Image, random: Generator) -> Pixels:
        """Apply both steps."""
        return self.vary(self.prepare(image), random)


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Return the fixed transform for validation, extraction and prediction.

    Its pixels equal those of timm's transform for evaluation.
    """
    _, height, width = preprocessing.input_size
    needed = math.ceil(max(height, width) / preprocessing.crop_pct)
    sampling = _filter(preprocessing.interpolation)

    def prepare(image: Image.Image) -> Pixels:
        scaled = image.resize(_scaled_size(image.size, preprocessing), sampling)
        if preprocessing.crop_mode == "border":
            scaled = _padded(scaled, (width, height), preprocessing.mean_colour)
        return np.asarray(_centre(scaled, (width, height)))

    return Transform(needed, prepare, lambda pixels, _: pixels)


def _scaled_size(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the (width, height) of a scaled image before its centre is cropped."""
    _, height, width = preprocessing.input_size
    target = tuple(math.floor(side / preprocessing.crop_pct) for side in (width, height))
    if preprocessing.crop_mode == "squash":
        return target[0], target[1]
    if preprocessing.crop_mode != "border" and target[0] == target[1]:
        return _with_short_side(size, target[0])
    ratios = (size[0] / target[0], size[1] / target[1])
    ratio = max(ratios) if preprocessing.crop_mode == "border" else min(ratios)
    return max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio))


def _padded(image: Image.Image, size: tuple[int, int], colour: tuple[int, int, int]) -> Image.Image:
    """Return an image on a ground that has at least the given (width, height)."""
    ground = (max(image.width, size[0]), max(image.height, size[1]))
    padded = Image.new("RGB", ground, colour)
    padded.paste(image, ((ground[0] - image.width) // 2, (ground[1] - image.height) // 2))
    return padded


def _centre(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the centre of an image as (width, height); what lies outside the image is black."""
    width, height = size
    # Rounds like torchvision: what is added is rounded down, what is cut off to the even number.
    left, top = (
        -((want - have) // 2) if want > have else round((have - want) / 2)
        for have, want in ((image.width, width), (image.height, height))
    )
    return image.crop((left, top, left + width, top + height))


def train_transform(preprocessing: Preprocessing, augment: Augment) -> Transform:
    """Return the transform for training images, random unless `augment` is none."""
    if augment is Augment.NONE:
        return eval_transform(preprocessing)
    _, height, width = preprocessing.input_size
    needed = math.ceil(_ROOM * max(height, width))
    sampling = _filter(preprocessing.interpolation)
    ground = preprocessing.mean_colour

    def prepare(image: Image.Image) -> Pixels:
        if preprocessing.crop_mode == "border":
            image = ImageOps.pad(image, _padded_size(image.size, height, width), color=ground)
        if min(image.size) > needed:
            image = image.resize(_with_short_side(image.size, needed), sampling)
        return np.asarray(image)

    def vary(pixels: Pixels, random: Generator) -> Pixels:
        image = Image.fromarray(pixels)
        view = augmented(
            image.size,
            lambda box: image.crop(box).resize((width, height), sampling),
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


def _filter(interpolation: str) -> Image.Resampling:
    """Return pillow's filter of this name; an unknown name means bicubic, as in timm."""
    return _FILTERS.get(interpolation, Image.Resampling.BICUBIC)
