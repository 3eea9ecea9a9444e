"""Normalise pixels to a network's input."""

import torch
from torch import Tensor

from transferkit.data.preprocessing import Preprocessing
from transferkit.device_copies import to_device

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R BT.601, as in pillow's mode L."""


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalise a batch of pixels for the network.

    Args:
        pixels: (B, H, W, 3) uint8.
        preprocessing: The mean and the standard deviation per channel.

    Returns:
        (pixels / 255 - mean) / std as (B, C, H, W) float32 with channels last in memory, on the
        device of `pixels`. For a network of one channel the pixels are first converted to luma
        (ITU-R BT.601).
    """
    mean, std = (
        to_device(torch.tensor(numbers), pixels.device).view(1, -1, 1, 1)
        for numbers in (preprocessing.mean, preprocessing.std)
    )
    images = pixels.permute(0, 3, 1, 2).float()
    if len(preprocessing.mean) == 1:
        luma = to_device(torch.tensor(_LUMA), pixels.device).view(1, -1, 1, 1)
        images = (images * luma).sum(dim=1, keepdim=True)
    return images.div(255).sub(mean).div(std)
