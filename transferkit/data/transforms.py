"""The callables built from a `Preprocessing` record: picture in, pixels out.

All end in uint8; `normalize` turns a batch into what the network reads, once for all its pictures.
Randomness comes from the generator that is handed in, so it does not depend on threads.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from timm.data import create_transform
from torch import Tensor

from transferkit.data.augment import Augment, augmented
from transferkit.data.preprocessing import Preprocessing

Transform = Callable[[Image.Image, np.random.Generator], NDArray[np.uint8]]
"""RGB picture and randomness to (3, H, W) uint8."""


_INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """The fixed transform of validation, extraction and prediction: timm's own."""
    transform = create_transform(
        **preprocessing.to_config(),
        is_training=False,
        use_prefetcher=True,  # timm's word for: leave uint8, normalisation comes per batch
    )

    def apply(image: Image.Image, random: np.random.Generator) -> NDArray[np.uint8]:
        return np.asarray(transform(image))  # a tensor or an array, by timm's version

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
        view = augmented(
            image,
            size=(width, height),
            resampling=resampling,
            augment=augment,
            ground=ground,
            random=random,
        )
        return np.asarray(view).transpose(2, 0, 1)

    return apply


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn (B, 3, H, W) uint8 into the float32 that the network was trained on.

    Returns:
        (B, 3, H, W) float32 on the device of `pixels`: (pixels / 255 - mean) / std.
    """
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(1, -1, 1, 1)
    return (pixels.contiguous(memory_format=torch.channels_last).float() / 255 - mean) / std
