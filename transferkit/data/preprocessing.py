"""The record of what a backbone expects of its pixels.

It travels with the weights: training, feature extraction and prediction read the same record.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


class Resize(StrEnum):
    """How a picture of any shape becomes one of the backbone's.

    `crop` scales the short side and cuts the middle out, `pad` shows the whole picture on a plain
    ground, `squash` ignores the aspect.
    """

    CROP = "crop"
    PAD = "pad"
    SQUASH = "squash"


# timm's word for each.
_CROP_MODES = {Resize.CROP: "center", Resize.PAD: "border", Resize.SQUASH: "squash"}


@dataclass(frozen=True)
class Preprocessing:
    """What a backbone expects, in the keys of timm's pretrained configuration.

    Attributes:
        input_size: (channels, height, width) in pixels.
        interpolation: bilinear, bicubic, ...
        crop_pct: The cropped part of the scaled picture, 0 < crop_pct <= 1.
        crop_mode: center, border or squash.
        mean: Per channel, of pixels in 0..1.
        std: Per channel, of pixels in 0..1.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preprocessing":
        """Read the record from a pretrained configuration; other keys are passed over.

        Raises:
            ValueError: When a value is not of its form.
        """
        known = {key: config[key] for key in asdict(cls()) if config.get(key) is not None}
        for key in ("input_size", "mean", "std"):
            if key in known:
                known[key] = tuple(known[key])
                if len(known[key]) != 3 or not all(isinstance(n, int | float) for n in known[key]):
                    raise ValueError(f"{key} must be three numbers, got {known[key]}")
        return cls(**known)

    def to_config(self) -> dict[str, Any]:
        """The record as JSON values, for a pretrained configuration."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def changed(self, *, image_size: int | None, resize: Resize | None) -> "Preprocessing":
        """The record with another image size (pixels) or way of resizing, where given."""
        record = self
        if image_size is not None:
            record = replace(record, input_size=(self.input_size[0], image_size, image_size))
        if resize is not None:
            record = replace(record, crop_mode=_CROP_MODES[resize])
        return record

    @property
    def resize(self) -> Resize | None:
        """The way of resizing, by the command line's name; None where it has none."""
        return next((ours for ours, timms in _CROP_MODES.items() if timms == self.crop_mode), None)

    def describe(self) -> str:
        """The record in a line."""
        _, height, width = self.input_size
        return (
            f"{height} x {width} px, {self.crop_mode} crop {self.crop_pct:g} of a "
            f"{self.interpolation} resize"
        )
