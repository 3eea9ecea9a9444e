"""Small images embedded in a page."""

import base64
from io import BytesIO

from PIL import Image

_SIDE, _QUALITY = 176, 72


def thumbnail(image: Image.Image, side: int = _SIDE) -> str:
    """Return a small JPEG as a `data:` address.

    Args:
        image: Upright RGB image; not changed.
        side: Pixels of the longer side, at most.
    """
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _address(small, "jpeg", quality=_QUALITY, optimize=True)


def png_address(image: Image.Image) -> str:
    """Return an image as a lossless PNG in a `data:` address."""
    return _address(image, "png", optimize=True)


def _address(image: Image.Image, kind: str, **settings: object) -> str:
    file = BytesIO()
    image.save(file, format=kind, **settings)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
