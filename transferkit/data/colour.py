"""Pixels of any mode to 8-bit sRGB: depth, palettes, transparency, colour profiles."""

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms, features

_BITS_PER_SAMPLE = 258
"""TIFF's tag."""


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture of any mode as RGB.

    16-bit and float pictures are scaled to 8 bits, colours of an embedded profile are converted to
    sRGB, transparency is laid on white.

    Raises:
        ValueError: When pillow cannot convert its mode.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled_to_8_bits(image).convert("RGB")
    if image.has_transparency_data:
        rgba = _in_srgb(image.convert("RGBA"), image.info.get("icc_profile"))
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode in ("P", "1", "PA"):
        return _in_srgb(image.convert("RGB"), image.info.get("icc_profile"))
    return _in_srgb(image, image.info.get("icc_profile")).convert("RGB")


def _scaled_to_8_bits(image: Image.Image) -> Image.Image:
    # Pillow's own convert("RGB") clips these modes at 255: a 16-bit scan would turn all white.
    values = np.asarray(image).astype(np.float64)
    low, high = _value_range(image, values)
    return Image.fromarray(np.round((values - low) / (high - low) * 255).astype(np.uint8))


def _value_range(
    image: Image.Image, values: "np.typing.NDArray[np.float64]"
) -> tuple[float, float]:
    """What black and white are; changes infinite values and those that are no numbers."""
    if image.mode == "F":
        np.nan_to_num(values, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        low, high = min(0.0, values.min()), max(1.0, values.max())
        return low, 255.0 if 1.0 < high <= 255.0 else high
    if image.mode == "I" and values.max() <= 255:
        return 0.0, 255.0  # 32 bits are often just a container for 8
    low = min(0.0, values.min())
    # A TIFF of 12 bits has values up to 4095, which would be near black of 65535.
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
    white = 2.0**bits - 1 if 8 < bits < 16 else 65535.0
    return low, max(white, values.max())


def _in_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """The picture's colours in sRGB; as they are without a profile that can be understood."""
    if not isinstance(profile, bytes):
        # Pillow has no conversion of its own for CIE Lab.
        profile = b"" if image.mode == "LAB" else None
    if profile is None or not _has_profiles():
        return image
    transform = _transform(profile, image.mode)
    return image if transform is None else transform.apply(image)


@lru_cache
def _has_profiles() -> bool:
    return bool(features.check("littlecms2"))


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile's colours to sRGB, None where that changes nothing or cannot be done.

    Args:
        profile: ICC; empty for CIE Lab.
        mode: Pillow's, of the picture.
    """
    target = "RGBA" if mode == "RGBA" else "RGB"
    try:
        given = ImageCms.ImageCmsProfile(BytesIO(profile)) if profile else _lab()
        if "sRGB" in ImageCms.getProfileDescription(given):
            return None
        return ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), mode, target)
    except (ImageCms.PyCMSError, OSError):
        # A damaged profile, or one of another colour space than the picture's, says nothing.
        return None


def _lab() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
