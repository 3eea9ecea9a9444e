"""Measure images: how sharp, bright and varied they are, and how they are stored.

Measures are cached by the content of the files, so that the next audit reads changed files only.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from transferkit.data.images import (
    FORMATS,
    VERSION,
    ImageError,
    ImageFile,
    decode_image,
    read_bytes,
    stored_form,
)
from transferkit.data.threads import map_in_order
from transferkit.errors import OutputError
from transferkit.reporter import Reporter
from transferkit.row_cache import CacheEntry, Rows

SIDE = 256
"""Length in pixels that the shorter side of a larger image is scaled to before it is measured."""

_VERSION = 1
"""Increased whenever some image gives other measures, which invalidates cached ones."""

_FORMAT_NUMBERS = {name: number for number, name in enumerate(sorted(FORMATS))}
_AHEAD = 4


@dataclass(frozen=True, eq=False)
class ImageMeasures:
    """Measures of N images, each (N,) float32; NaN for an image that can no longer be read.

    Attributes:
        width: Width of the upright image in pixels.
        height: Height of the upright image in pixels.
        bytes_per_pixel: Size of the file in bytes by the number of pixels.
        format: A number for each format.
        quantization: Mean of a JPEG's quantisation table for brightness; 0 for other formats.
        red: Mean of the red channel, 0 to 255.
        green: Mean of the green channel.
        blue: Mean of the blue channel.
        highlights: Brightness that 99 % of the pixels do not exceed, 0 to 255.
        shadows: Brightness that 99 % of the pixels reach.
        contrast: Standard deviation of the pixels in the channel where it is largest.
        sharpness: Variance of the Laplacian of the brightness.
    """

    width: NDArray[np.float32]
    height: NDArray[np.float32]
    bytes_per_pixel: NDArray[np.float32]
    format: NDArray[np.float32]
    quantization: NDArray[np.float32]
    red: NDArray[np.float32]
    green: NDArray[np.float32]
    blue: NDArray[np.float32]
    highlights: NDArray[np.float32]
    shadows: NDArray[np.float32]
    contrast: NDArray[np.float32]
    sharpness: NDArray[np.float32]


_COUNT = len(fields(ImageMeasures))


def measure_images(
    files: Sequence[ImageFile],
    names: Sequence[str],
    *,
    workers: int,
    reporter: Reporter,
    remember: bool = False,
    allow_truncated: bool = False,
) -> ImageMeasures:
    """Measure images, each in one pass at a small size.

    Args:
        files: N images.
        names: N digests of the files, under which results are cached.
        workers: Number of threads.
        reporter: Receives the progress.
        remember: Whether to cache the results on disk for later runs.
        allow_truncated: Whether to read JPEGs whose end is missing.
    """
    known = _known(allow_truncated) if remember else Rows()
    file_of = dict(zip(names, files, strict=True))
    missing = [name for name in file_of if name not in known]
    rows: dict[str, NDArray[np.float32]] = {}
    measuring = map_in_order(
        lambda name: _measured(file_of[name], allow_truncated),
        missing,
        workers=workers,
        ahead=_AHEAD * workers,
    )
    with reporter.progress("measuring images", len(missing)) as progress, closing(measuring):
        for name, row in zip(missing, measuring, strict=True):
            rows[name] = row
            progress.advance(1)
    _remember(known, rows, reporter)
    table = np.stack([rows[name] if name in rows else known.gather([name])[0] for name in names])
    return ImageMeasures(*table.T)


def measure(data: bytes, *, allow_truncated: bool = False) -> NDArray[np.float32]:
    """Return the measures of an image file's content, in the order of `ImageMeasures`.

    Raises:
        ImageError: When it cannot be decoded.
    """
    form = stored_form(data)
    width, height = form.size
    image = decode_image(data, SIDE, allow_truncated=allow_truncated)
    image = image.resize(_scaled(image.size), Image.Resampling.BILINEAR)
    colours = np.asarray(image, dtype=np.float32)
    brightness = np.asarray(image.convert("L"), dtype=np.float32)
    shadows, highlights = np.percentile(brightness, (1, 99))
    values = (
        *(width, height, len(data) / (width * height), _FORMAT_NUMBERS[form.format]),
        *(form.quantization, *colours.mean(axis=(0, 1)), highlights, shadows),
        *(colours.std(axis=(0, 1)).max(), sharpness(brightness)),
    )
    return np.array(values, dtype=np.float32)


def sharpness(brightness: NDArray[np.float32]) -> float:
    """Return the variance of the Laplacian, which is small where an image has no fine detail.

    Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000. The kernel is
    that of the four neighbours.

    Args:
        brightness: (H, W), 0 to 255. Without an inner pixel the result is 0.
    """
    if min(brightness.shape) < 3:
        return 0.0
    inner = brightness[1:-1, 1:-1]
    above, below = brightness[:-2, 1:-1], brightness[2:, 1:-1]
    left, right = brightness[1:-1, :-2], brightness[1:-1, 2:]
    return float((above + below + left + right - 4 * inner).var())


def _scaled(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) of an image whose shorter side is `SIDE` at most."""
    scale = min(1.0, SIDE / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _measured(file: ImageFile, allow_truncated: bool) -> NDArray[np.float32]:
    try:
        return measure(read_bytes(file), allow_truncated=allow_truncated)
    except ImageError:
        return np.full(_COUNT, np.nan, dtype=np.float32)


def _known(allow_truncated: bool) -> CacheEntry:
    identity = {
        "what": "measures of images",
        "allow_truncated": allow_truncated,
        "measures": _VERSION,
        "decoding": VERSION,
        "pillow": PIL.__version__,
    }
    return CacheEntry(identity, np.dtype(np.float32), (_COUNT,))


def _remember(known: Rows, rows: dict[str, NDArray[np.float32]], reporter: Reporter) -> None:
    """Cache what could be measured."""
    good = [name for name, row in rows.items() if not np.isnan(row).any()]
    if not (good and isinstance(known, CacheEntry)):
        return
    try:
        known.add(good, np.stack([rows[name] for name in good]))
    except OutputError as error:
        reporter.notice(f"{error}; the next audit will measure all images again")
