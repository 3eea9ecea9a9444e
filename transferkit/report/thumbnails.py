"""Small pictures inside a page."""

import base64
from io import BytesIO

from PIL import Image

_SIDE, _QUALITY = 176, 72


def thumbnail(picture: Image.Image) -> str:
    """A picture as a small JPEG in a `data:` address, its longer side at most 176 pixels.

    Args:
        picture: Upright, RGB; not changed.
    """
    small = picture.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return _address(small, "jpeg", quality=_QUALITY, optimize=True)


def pixel_picture(pixels: Image.Image) -> str:
    """A picture whose pixels matter one by one, as a PNG in a `data:` address."""
    return _address(pixels, "png", optimize=True)


def _address(picture: Image.Image, kind: str, **how: object) -> str:
    file = BytesIO()
    picture.save(file, format=kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
