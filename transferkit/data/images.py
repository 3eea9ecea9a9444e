"""Decode an image file to upright RGB pixels, or say why it cannot be done.

Only raster formats are opened, and those by content, not by suffix. Formats that run other
programs (EPS, PDF) stay closed.
"""

import stat
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = frozenset((
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD",
    "TGA", "TIFF", "WEBP",
))  # fmt: skip
"""Pillow's names of the formats that are opened."""


_SPARE = 2
"""How many times the needed pixels a reduced decode leaves: its scaling is coarser than ours."""


class ImageError(Exception):
    """An image that cannot be read; the message is the reason. Becomes a row, not a stop."""


Picture = str | Path | Image.Image | NDArray[np.uint8]
"""A file, an opened picture, or an array of (H, W, 3) or (H, W) uint8."""


def read_image(picture: Picture, needed: int | None = None) -> Image.Image:
    """A picture as upright RGB; see `decode_image`.

    Raises:
        ImageError: When it cannot be read as a picture, with the reason.
    """
    if isinstance(picture, Image.Image):
        return upright_rgb(picture)
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    return decode_image(read_bytes(Path(picture)), needed)


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ImageError(
            f"an array of {pixels.shape} {pixels.dtype}, expected (H, W, 3) or (H, W) uint8"
        )
    if not pixels.size:
        raise ImageError("an empty array")
    return Image.fromarray(pixels).convert("RGB")


def read_bytes(path: Path) -> bytes:
    """The file's content.

    Raises:
        ImageError: When there is no such file or it may not be read.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise ImageError("a folder without images")
        if not stat.S_ISREG(kind):
            # Reading from a pipe or a device could wait for ever.
            raise ImageError("not a regular file")
        return path.read_bytes()
    except OSError as error:
        raise ImageError((error.strerror or str(error)).lower()) from error
    except ValueError as error:
        # What the system cannot even look for.
        raise ImageError("no possible file name, it holds a null byte") from error


def decode_image(data: bytes, needed: int | None = None) -> Image.Image:
    """Decode an image file's content as upright RGB.

    EXIF orientation is applied, transparency is laid on white, 16-bit and float pictures are
    scaled to 8 bits, and of an animation the first frame is taken.

    Args:
        data: The file's content.
        needed: How many pixels its shorter side is going to be scaled to. A JPEG of many more is
            decoded at a half, a quarter or an eighth of its size, with at least twice the needed
            ones left; None decodes all of it.

    Raises:
        ImageError: When it cannot be decoded, with the reason.
    """
    if not data:
        raise ImageError("an empty file")
    try:
        with Image.open(BytesIO(data), formats=_openable_formats()) as image:
            if needed is not None:
                image.draft(None, (_SPARE * needed, _SPARE * needed))
            return upright_rgb(image)
    except Exception as error:
        # Pillow's decoders raise far more than OSError on hostile files (ValueError, SyntaxError,
        # struct.error, DecompressionBombError ...): whatever it is, it is this file's reason.
        raise ImageError(_reason(error)) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened picture of any mode as upright RGB, by the rules of `decode_image`."""
    return _to_rgb(_upright(image))


@cache
def _openable_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(sorted(FORMATS & Image.OPEN.keys()))


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Broken EXIF says nothing about the orientation: the picture is taken as it is stored.
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled_to_8_bits(image).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _scaled_to_8_bits(image: Image.Image) -> Image.Image:
    # Pillow's own convert("RGB") clips these modes at 255: a 16-bit scan would turn all white.
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
        low, high = min(0.0, values.min()), max(1.0, values.max())
        high = 255.0 if 1.0 < high <= 255.0 else high
    elif image.mode == "I" and values.max() <= 255:
        low, high = 0.0, 255.0  # 32 bits are often just a container for 8
    else:
        low, high = 0.0, max(65535.0, values.max())
    return Image.fromarray(np.round((values - low) / (high - low) * 255).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format"
    return " ".join(str(error).split()) or type(error).__name__
