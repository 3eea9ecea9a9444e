"""Images as Python callers bring them: one or several, as files, bytes, arrays, tensors or columns.

>>> as_images("cat.jpg")
['cat.jpg']
"""

import os
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transferkit.data.images import CHANNELS, ImageSource, StoredImage
from transferkit.errors import ImageTypeError

_EXPECTED = (
    "expected paths, PIL images, bytes or open binary files of images, or arrays or tensors of "
    "pixels, (H, W, 3) or (H, W), uint8 or floats in 0..1"
)


def as_images(given: Any, *, alone: bool = True) -> list[ImageSource]:
    """Return images as a list.

    Args:
        given: An image; a list, tuple, generator or column of images; an array (N, H, W, C) or a
            tensor (N, C, H, W); or a table or an array with one column.
        alone: Whether one image counts as a list of one.

    Raises:
        ImageTypeError: When it is none of these; says what it is.
    """
    if hasattr(given, "columns") and hasattr(given, "to_numpy"):
        given = given.to_numpy()  # a table of pandas
    if _is_tensor(given):
        given = _tensor_pixels(given)
    if isinstance(given, np.ndarray):
        return _from_array(given, alone=alone)
    if _is_one(given):
        if not alone:
            raise ImageTypeError(f"got one image, {_shown(given)}; expected a list of images")
        return [_one(given, "it")]
    if isinstance(given, Mapping | Set) or not isinstance(given, Iterable):
        raise ImageTypeError(f"got {_shown(given)}; {_EXPECTED}")
    return [_one(item, f"item {position}") for position, item in enumerate(given)]


def image_name(image: ImageSource, position: int) -> str:
    """Return a name for an image: its path, or its position."""
    is_file = isinstance(image, str | Path | StoredImage)
    return str(image) if is_file else f"image-{position}"


def _is_one(given: Any) -> bool:
    return isinstance(
        given, str | os.PathLike | Image.Image | bytes | bytearray | memoryview
    ) or hasattr(given, "read")


def _one(item: Any, where: str) -> ImageSource:
    """Return one image of a list.

    Raises:
        ImageTypeError: When it is none.
    """
    if isinstance(item, str | Path | Image.Image):
        return item
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, os.PathLike) and isinstance(path := os.fspath(item), str):
        return Path(path)
    if hasattr(item, "read"):
        return _read(item, where)
    if _is_tensor(item):
        item = _tensor_pixels(item)
    if isinstance(item, np.ndarray) and item.ndim in (2, 3) and _is_numeric(item):
        return item
    raise ImageTypeError(f"{where} is {_shown(item)}; {_EXPECTED}")


def _read(file: Any, where: str) -> bytes:
    try:
        data = file.read()
    except (OSError, ValueError) as error:
        raise ImageTypeError(f"{where} is a file that cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise ImageTypeError(f"{where} is a file opened for text; open it with mode 'rb'")
    return data


def _from_array(given: np.ndarray[Any, Any], *, alone: bool) -> list[ImageSource]:
    """Return the images in an array of pixels, or in one of paths and the like."""
    if not _is_numeric(given):
        if given.ndim == 1 or (given.ndim == 2 and given.shape[1] == 1):
            return [_one(item, f"item {i}") for i, item in enumerate(given.ravel().tolist())]
        raise ImageTypeError(f"got {_shown(given)}; expected one column of images")
    if given.ndim == 4:
        return list(given)
    is_image = given.ndim == 2 or (given.ndim == 3 and given.shape[2] in CHANNELS)
    if not is_image or not alone:
        raise ImageTypeError(
            f"got {_shown(given)}, which may be one image or several; expected (N, H, W, C) for "
            "several, or a list of images"
        )
    return [given]


def _is_numeric(array: np.ndarray[Any, Any]) -> bool:
    return array.dtype.kind in "biuf"


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "numpy")


def _tensor_pixels(tensor: Any) -> np.ndarray[Any, Any]:
    """Return a tensor of torch as an array with channels last.

    Raises:
        ImageTypeError: When its channels may be first or last.
    """
    pixels: np.ndarray[Any, Any] = tensor.detach().cpu().numpy()
    if pixels.ndim not in (3, 4):
        return pixels
    first, last = pixels.shape[-3] in CHANNELS, pixels.shape[-1] in CHANNELS
    if first and last:
        raise ImageTypeError(
            f"got a tensor of {tuple(pixels.shape)}, whose channels may be first or last; give an "
            "array, whose channels are last"
        )
    return np.moveaxis(pixels, -3, -1) if first else pixels


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.shape} {value.dtype}"
    if value is None or isinstance(value, bool | int | float | str | os.PathLike):
        return repr(value)
    return f"a {type(value).__name__}"
