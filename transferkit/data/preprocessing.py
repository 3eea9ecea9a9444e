"""The record of the preprocessing that a backbone expects.

It is saved with the weights, so that training, feature extraction and prediction use the same one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


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
        crop_pct: Share of the scaled image's side that is cropped, 0 < crop_pct <= 1.
        crop_mode: center, border or squash.
        mean: Mean per channel, for pixels in 0..1.
        std: Standard deviation per channel, for pixels in 0..1.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preprocessing":
        """Read the record from a pretrained configuration, ignoring other keys.

        Raises:
            ValueError: When a value is malformed.
        """
        known = {key: config[key] for key in asdict(cls()) if config.get(key) is not None}
        for key in ("input_size", "mean", "std"):
            if key in known:
                known[key] = tuple(known[key])
                if len(known[key]) != 3 or not all(isinstance(n, int | float) for n in known[key]):
                    raise ValueError(f"{key} must be three numbers, got {known[key]}")
        return cls(**known)

    def to_config(self) -> dict[str, Any]:
        """Return the record as JSON values for a pretrained configuration."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def changed(self, *, image_size: int | None, resize: Resize | None) -> "Preprocessing":
        """Return the record with another image size (pixels) or way of resizing, if given."""
        record = self
        if image_size is not None:
            record = replace(record, input_size=(self.input_size[0], image_size, image_size))
        if resize is not None:
            record = replace(record, crop_mode=_CROP_MODES[resize])
        return record

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
