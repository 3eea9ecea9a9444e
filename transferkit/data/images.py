"""Decode an image file to upright RGB pixels, or say why it cannot be done.

Only raster formats are opened, and those by content, not by suffix. Formats that run other
programs (EPS, PDF) stay closed.
"""

import stat
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from transferkit.data.colour import encoding_of, to_rgb

VERSION = 2
"""Rises whenever some picture comes out with other pixels, so that nothing cached is mistaken."""

FORMATS = frozenset((
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD",
    "TGA", "TIFF", "WEBP",
))  # fmt: skip
"""Pillow's names of the formats that are opened."""


_SPARE = 2
"""How many times the needed pixels a reduced decode leaves: its scaling is coarser than ours."""

MAX_PIXELS = 178_956_970
"""The most pixels that are ever decoded, half a gigabyte: where pillow sees an attack."""

_JPEG_BEGIN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_LARGEST_REDUCTION = 8
_HEIF = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"))


class ImageError(Exception):
    """An image that cannot be read; the message is the reason. Becomes a row, not a stop."""


Picture = str | Path | Image.Image | NDArray[np.uint8]
"""A file, an opened picture, or an array of (H, W, 3) or (H, W) uint8."""


def read_image(
    picture: Picture, needed: int | None = None, *, allow_truncated: bool = False
) -> Image.Image:
    """A picture as upright RGB; see `decode_image`.

    Raises:
        ImageError: When it cannot be read as a picture, with the reason.
    """
    if isinstance(picture, Image.Image):
        return upright_rgb(picture)
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    return decode_image(read_bytes(Path(picture)), needed, allow_truncated=allow_truncated)


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


def decode_image(
    data: bytes, needed: int | None = None, *, allow_truncated: bool = False
) -> Image.Image:
    """Decode an image file's content as upright RGB.

    EXIF orientation is applied, transparency is laid on white, 16-bit and float pictures are
    scaled to 8 bits, embedded colour profiles are converted to sRGB, and of an animation the first
    frame is taken.

    Args:
        data: The file's content.
        needed: How many pixels its shorter side is going to be scaled to. A JPEG of many more is
            decoded at a half, a quarter or an eighth of its size, with at least twice the needed
            ones left; None decodes all of it. One of more than `MAX_PIXELS` is always reduced.
        allow_truncated: Whether a JPEG whose end is missing is read; the missing part is grey.

    Raises:
        ImageError: When it cannot be decoded, with the reason.
    """
    if not data:
        raise ImageError("an empty file")
    try:
        with _open(data) as image:
            if needed is not None:
                image.draft(None, (_SPARE * needed, _SPARE * needed))
            _require_bounded(image)
            return upright_rgb(image)
    except Exception as error:
        # Pillow's decoders raise far more than OSError on hostile files (ValueError, SyntaxError,
        # struct.error, DecompressionBombError ...): whatever it is, it is this file's reason.
        reason = _reason(error, data)
        if allow_truncated and "truncated" in reason and data.startswith(_JPEG_BEGIN):
            # With an end put to it the decoder takes what is there.
            return decode_image(data + _JPEG_END, needed)
        raise ImageError(reason) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened picture of any mode as upright RGB, by the rules of `decode_image`."""
    return to_rgb(_upright(image), encoding_of(image))


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(data), formats=_openable_formats())
    except Image.DecompressionBombError:
        if not data.startswith(_JPEG_BEGIN):
            raise
        # Alone of all formats it can be decoded at a reduced scale, row by row.
        return JpegImagePlugin.JpegImageFile(BytesIO(data))


def _require_bounded(image: Image.Image) -> None:
    """Reduce a huge JPEG, and refuse what would still take too much memory."""
    width, height = image.size
    if width * height > MAX_PIXELS and image.format == "JPEG" and "progressive" not in image.info:
        # A progressive one is held as a whole, whatever its scale.
        image.draft(None, (width // _LARGEST_REDUCTION, height // _LARGEST_REDUCTION))
    if image.size[0] * image.size[1] > MAX_PIXELS:
        raise ImageError(
            f"{width} x {height} pixels, more than the {MAX_PIXELS / 1e6:.0f} million that are "
            "decoded; only JPEGs that are not progressive can be read at a reduced scale"
        )


@cache
def _openable_formats() -> tuple[str, ...]:
    Image.init()
    if find_spec("pillow_heif"):
        import_module("pillow_heif").register_heif_opener()
    return tuple(sorted(FORMATS & Image.OPEN.keys()))


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Broken EXIF says nothing about the orientation: the picture is taken as it is stored.
        return image


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        if data[4:12] in _HEIF and "HEIF" not in Image.OPEN:
            return "a HEIF picture, which pillow reads once the package pillow-heif is installed"
        return "not an image in a known format"
    return " ".join(str(error).split()) or type(error).__name__
