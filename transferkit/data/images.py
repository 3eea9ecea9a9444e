"""Decode an image file to upright RGB pixels, or say why that is impossible.

Only raster formats are opened, recognised by their content and not by the suffix. Formats whose
decoders run other programs (EPS, PDF) are refused.
"""

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from transferkit.data.colour import encoding_of, to_rgb
from transferkit.places import Place, Url, is_url, place

VERSION = 3
"""Increased whenever some image gives other pixels, which invalidates cached results."""

FORMATS = frozenset((
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD",
    "TGA", "TIFF", "WEBP",
))  # fmt: skip
"""Pillow's names of the formats that are opened."""

_SPARE = 2
"""A reduced decode keeps this many times the needed pixels: its scaling is coarser than ours."""

MAX_PIXELS = 178_956_970
"""Most pixels that are ever decoded, half a gigabyte: pillow's own limit against attacks."""

_JPEG_BEGIN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_LARGEST_REDUCTION = 8
_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
_HEIF = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"))


class ImageError(Exception):
    """An image cannot be read; the message is the reason. It is recorded and ends no command."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image file that is in a store, or in an archive.

    Attributes:
        place: The file, or the archive.
        state: Text that changes when the content does; empty if that is not known.
        name: Its name in the archive; empty for a file.
        start: Where in the archive it begins, in bytes.
        size: Bytes of it; None for a file of unknown size, which takes stores one question more.
    """

    place: Place
    state: str = ""
    name: str = ""
    start: int = 0
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.place}/{self.name}" if self.name else str(self.place)

    def to_json(self) -> list[str | int | None]:
        """Return the image as JSON values, which `from_json` reads on any machine that has it."""
        where = self.place if isinstance(self.place, Url) else self.place.absolute()
        return [str(where), self.state, self.name, self.start, self.size]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> "StoredImage":
        """Return the image that was written as JSON values."""
        where, *others = values
        return cls(place(where), *others)


ImageFile = Path | StoredImage
"""An image as a file: of this machine, in a store, or in an archive."""

ImageSource = str | ImageFile | Image.Image | bytes | NDArray[Any]
"""An image as a file, as the content of a file, as an opened PIL image, or as an array (H, W, C) or
(H, W), uint8 or floats in 0..1, with one, three or four channels; the fourth is opacity. Text is a
path, or an address in a store."""

CHANNELS = (1, 3, 4)
"""Numbers of channels of an array."""


def read_image(
    source: ImageSource, needed: int | None = None, *, allow_truncated: bool = False
) -> Image.Image:
    """Read an image as upright RGB; see `decode_image`.

    Raises:
        ImageError: When it cannot be read, with the reason.
    """
    if isinstance(source, Image.Image):
        return upright_rgb(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, bytes):
        return decode_image(source, needed, allow_truncated=allow_truncated)
    return decode_image(read_bytes(source), needed, allow_truncated=allow_truncated)


def _from_array(pixels: NDArray[Any]) -> Image.Image:
    what = f"an array of {pixels.shape} {pixels.dtype}"
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in CHANNELS:
        first = " (channels are first)" if pixels.ndim == 3 and pixels.shape[0] in (1, 3) else ""
        raise ImageError(f"{what}{first}, expected (H, W, 3) or (H, W)")
    if not pixels.size:
        raise ImageError("an empty array")
    if pixels.dtype.kind == "f":
        # The comparison is false for NaN too.
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ImageError(f"{what} beyond 0..1, expected floats in 0..1 or uint8")
        pixels = (pixels * 255).round().astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ImageError(f"{what}, expected uint8 or floats in 0..1")
    return upright_rgb(
        Image.fromarray(pixels[..., 0] if channels == 1 and pixels.ndim == 3 else pixels)
    )


def read_bytes(file: str | ImageFile) -> bytes:
    """Read a file's content.

    Raises:
        ImageError: When there is no such file or it cannot be read.
        StoreError: When it is in a store that fails.
    """
    try:
        if isinstance(file, StoredImage):
            return _read_stored(file)
        if isinstance(file, str) and is_url(file):
            return Url(file).read_bytes()
        return _read_regular(Path(file))
    except OSError as error:
        raise ImageError((error.strerror or str(error)).lower()) from error
    except ValueError as error:
        raise ImageError("not a possible file name, it contains a null byte") from error


def _read_stored(image: StoredImage) -> bytes:
    if image.size is None:
        return image.place.read_bytes()
    if isinstance(image.place, Url):
        return image.place.read_bytes(image.start, image.start + image.size)
    with image.place.open("rb") as archive:
        archive.seek(image.start)
        return archive.read(image.size)


def _read_regular(path: Path) -> bytes:
    kind = path.stat().st_mode
    if stat.S_ISDIR(kind):
        raise ImageError("a folder without images")
    if not stat.S_ISREG(kind):
        # Reading from a pipe or a device could block for ever.
        raise ImageError("not a regular file")
    return path.read_bytes()


def decode_image(
    data: bytes, needed: int | None = None, *, allow_truncated: bool = False
) -> Image.Image:
    """Decode an image file's content to upright RGB.

    EXIF orientation is applied, transparency is composited on white, 16-bit and float images are
    scaled to 8 bits, and embedded colour profiles are converted to sRGB. An animation gives its
    first frame.

    Args:
        data: The file's content.
        needed: Length in pixels that the shorter side will be scaled to. A much larger JPEG is
            decoded at a half, a quarter or an eighth of its size, with at least twice the needed
            length left; None decodes it at full size. A JPEG of more than `MAX_PIXELS` is always
            reduced.
        allow_truncated: Whether to read a JPEG whose end is missing; the missing part is grey.

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
        # On hostile files, pillow's decoders raise far more than OSError (ValueError, SyntaxError,
        # struct.error, DecompressionBombError ...). The cause is this file in any case.
        reason = _reason(error, data)
        if allow_truncated and "truncated" in reason and data.startswith(_JPEG_BEGIN):
            # With an end marker appended, the decoder accepts what is there.
            return decode_image(data + _JPEG_END, needed)
        raise ImageError(reason) from error


@dataclass(frozen=True)
class StoredForm:
    """How an image is stored.

    Attributes:
        format: Pillow's name of the format, such as JPEG.
        size: (width, height) of the upright image in pixels.
        quantization: Mean of a JPEG's table for brightness, 1 at the best quality; 0 for others.
    """

    format: str
    size: tuple[int, int]
    quantization: float


def stored_form(data: bytes) -> StoredForm:
    """Return how an image file's content is stored, by its header alone.

    Raises:
        ImageError: When it has no header of an image.
    """
    try:
        with _open(data) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
            tables = getattr(image, "quantization", None) or {0: (0,)}
            return StoredForm(
                str(image.format),
                image.size[::-1] if turned else image.size,
                float(np.mean(tables[min(tables)])),
            )
    except Exception as error:
        # As in `decode_image`: on hostile files pillow raises nearly anything.
        raise ImageError(_reason(error, data)) from error


def stored_pixels(data: bytes) -> int:
    """Return how many pixels an image file's content says it has; 0 where it is no image."""
    try:
        with _open(data) as image:
            return image.width * image.height
    except Exception:
        # As in `decode_image`, which gives the reason: pillow raises nearly anything.
        return 0


def upright_rgb(image: Image.Image) -> Image.Image:
    """Convert an opened image of any mode to upright RGB, by the rules of `decode_image`."""
    return to_rgb(_upright(image), encoding_of(image))


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(data), formats=_openable_formats())
    except Image.DecompressionBombError:
        if not data.startswith(_JPEG_BEGIN):
            raise
        # JPEG is the only format that can be decoded at a reduced scale, row by row.
        return JpegImagePlugin.JpegImageFile(BytesIO(data))


def _require_bounded(image: Image.Image) -> None:
    """Reduce a huge JPEG, and refuse an image that would still take too much memory."""
    width, height = image.size
    if width * height > MAX_PIXELS and image.format == "JPEG" and "progressive" not in image.info:
        # The decoder holds all of a progressive JPEG in memory, whatever the scale.
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
        # Broken EXIF data does not give the orientation: use the image as it is stored.
        return image


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        if data[4:12] in _HEIF and "HEIF" not in Image.OPEN:
            return "a HEIF image; install the package pillow-heif to read it"
        return "not an image in a known format"
    return " ".join(str(error).split()) or type(error).__name__
