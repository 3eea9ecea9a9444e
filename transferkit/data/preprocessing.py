"""The record of the preprocessing that a backbone expects.

It is saved with the weights, so that training, feature extraction and prediction use the same one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

ImageSize = int | tuple[int, int]
"""Side of a square, or (height, width), in pixels."""

CHANNELS = (1, 3)
"""Numbers of channels that a network may take."""


class Resize(StrEnum):
    """How an image of any shape is fitted to the backbone's input.

    `crop` scales the short side and crops the centre, `pad` keeps the whole image and fills the
    rest with a plain colour, `squash` ignores the aspect ratio.
    """

    CROP = "crop"
    PAD = "pad"
    SQUASH = "squash"


_CROP_MODES = {Resize.CROP: "center", Resize.PAD: "border", Resize.SQUASH: "squash"}
"""timm's name of each."""


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of a backbone, named as in timm's pretrained configuration.

    Attributes:
        input_size: (channels, height, width) in pixels.
        interpolation: bilinear, bicubic, ...
        crop_pct: Share of the scaled image's side that is cropped, 0 < crop_pct <= 2; beyond 1 the
            rest is black.
        crop_mode: center, border or squash.
        mean: Mean per channel, for pixels in 0..1.
        std: Standard deviation per channel, for pixels in 0..1.

    A network of one channel sees the luma of the image.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preprocessing":
        """Read the record from a pretrained configuration, ignoring other keys.

        As in timm, a mean or a standard deviation for another number of channels is averaged.

        Raises:
            ValueError: When a value is malformed, or the network takes neither one channel nor
                three.
        """
        known = {key: config[key] for key in asdict(cls()) if config.get(key) is not None}
        size = known["input_size"] = tuple(known.get("input_size", cls.input_size))
        if len(size) != 3 or not all(type(n) is int and n > 0 for n in size):
            raise ValueError(f"input_size must be three whole numbers, got {size}")
        if size[0] not in CHANNELS:
            raise ValueError(f"the network takes {size[0]} channels, but images have three or one")
        known["mean"] = _per_channel("mean", known.get("mean", cls.mean), size[0])
        known["std"] = _per_channel("std", known.get("std", cls.std), size[0])
        if min(known["std"]) <= 0:
            raise ValueError(f"std must be more than 0, got {known['std']}")
        crop = known.get("crop_pct", 1)
        if not isinstance(crop, int | float) or not 0 < crop <= 2:
            raise ValueError(f"crop_pct must be more than 0 and at most 2, got {crop}")
        return cls(**known)

    def to_config(self) -> dict[str, Any]:
        """Return the record as JSON values for a pretrained configuration."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def changed(self, *, image_size: ImageSize | None, resize: Resize | None) -> "Preprocessing":
        """Return the record with another image size (pixels) or way of resizing, if given."""
        record = self
        if image_size is not None:
            record = replace(record, input_size=(self.input_size[0], *both_sides(image_size)))
        if resize is not None:
            record = replace(record, crop_mode=_CROP_MODES[resize])
        return record

    @property
    def image_size(self) -> ImageSize:
        """Size of the input in pixels as the command line takes it."""
        _, height, width = self.input_size
        return height if height == width else (height, width)

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """The mean as an RGB colour in 0..255; it fills what lies outside an image."""
        red, green, blue = self.mean if len(self.mean) == 3 else self.mean * 3
        return round(255 * red), round(255 * green), round(255 * blue)

    @property
    def resize(self) -> Resize | None:
        """The way of resizing as the command line names it; None if it has no name for it."""
        return next((ours for ours, timms in _CROP_MODES.items() if timms == self.crop_mode), None)

    def describe(self) -> str:
        """Return a description of the record in one line."""
        _, height, width = self.input_size
        return (
            f"{height} x {width} px, {self.crop_mode} crop {self.crop_pct:g} of a "
            f"{self.interpolation} resize"
        )


def both_sides(size: ImageSize) -> tuple[int, int]:
    """Return (height, width) of an image size."""
    return (size, size) if isinstance(size, int) else size


def describe_size(size: ImageSize) -> str:
    """Return an image size as messages show it."""
    height, width = both_sides(size)
    return f"{height} x {width}"


def _per_channel(key: str, given: float | Sequence[float], channels: int) -> tuple[float, ...]:
    values = (given,) if isinstance(given, int | float) else tuple(given)
    if not values or not all(isinstance(n, int | float) and math.isfinite(n) for n in values):
        raise ValueError(f"{key} must be a number per channel, got {given}")
    return values if len(values) == channels else (sum(values) / len(values),) * channels
