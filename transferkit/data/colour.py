"""Convert pixels of any mode to 8-bit sRGB: depth, palettes, transparency, colour profiles."""

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms, features

_BITS_PER_SAMPLE = 258
"""Number of the TIFF tag."""


@dataclass(frozen=True)
class Encoding:
    """What a file says about the meaning of its numbers; pillow loses it on transposing.

    Attributes:
        white: The value of white in an image of more than 8 bits.
        profile: The embedded ICC profile; empty for CIE Lab, None for no profile.
        inverted: Whether pillow assumed the inverted inks of Adobe's writers for a JPEG without
            Adobe's marker.
    """

    white: float
    profile: bytes | None
    inverted: bool


def encoding_of(image: Image.Image) -> Encoding:
    """Return the encoding of an image that has just been opened."""
    # A TIFF of 12 bits has values up to 4095, which on a scale of 65535 would be nearly black.
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes):
        # Pillow cannot convert CIE Lab without a profile.
        profile = b"" if image.mode == "LAB" else None
    unmarked = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    return Encoding(2.0**bits - 1 if 8 < bits < 16 else 65535.0, profile, unmarked)


def to_rgb(image: Image.Image, encoding: Encoding) -> Image.Image:
    """Convert a decoded image of any mode to RGB.

    16-bit and float images are scaled to 8 bits, colours with an embedded profile are converted to
    sRGB, and transparency is composited on white.

    Raises:
        ValueError: When pillow cannot convert the mode.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled_to_8_bits(image, encoding.white).convert("RGB")
    if encoding.inverted:
        image = ImageChops.invert(image)
    if image.has_transparency_data:
        rgba = _in_srgb(image.convert("RGBA"), encoding.profile)
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode in ("P", "1", "PA"):
        image = image.convert("RGB")
    return _in_srgb(image, encoding.profile).convert("RGB")


def _scaled_to_8_bits(image: Image.Image, white: float) -> Image.Image:
    # Pillow's convert("RGB") clips these modes at 255, so a 16-bit scan would turn white.
    values = np.asarray(image).astype(np.float64)
    low, high = _value_range(image.mode, values, white)
    return Image.fromarray(np.round((values - low) / (high - low) * 255).astype(np.uint8))


def _value_range(mode: str, values: NDArray[np.float64], white: float) -> tuple[float, float]:
    """Return the values of black and white; replace infinite and NaN values in place."""
    if mode == "F":
        np.nan_to_num(values, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        low, high = min(0.0, values.min()), max(1.0, values.max())
        return low, 255.0 if 1.0 < high <= 255.0 else high
    if mode == "I" and values.max() <= 255:
        return 0.0, 255.0  # 32 bits often just contain 8
    return min(0.0, values.min()), max(white, values.max())


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert the image's colours to sRGB; keep them if there is no usable profile."""
    if profile is None or not _has_profiles():
        return image
    transform = _transform(profile, image.mode)
    return image if transform is None else transform.apply(image)


@lru_cache
def _has_profiles() -> bool:
    return bool(features.check("littlecms2"))


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB; None if it changes nothing or is impossible.

    Args:
        profile: ICC profile; empty for CIE Lab.
        mode: Pillow's mode of the image.
    """
    target = "RGBA" if mode == "RGBA" else "RGB"
    try:
        given = ImageCms.ImageCmsProfile(BytesIO(profile)) if profile else _lab()
        if "sRGB" in ImageCms.getProfileDescription(given):
            return None
        return ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), mode, target)
    except (ImageCms.PyCMSError, OSError):
        # A profile that is damaged or for another colour space than the image's is ignored.
        return None


def _lab() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
