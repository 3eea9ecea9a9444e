"""Images side by side, each with a title above it, as a PNG file."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from transferkit.files import whole_file

_SIDE = 288
"""Smallest side of a panel in pixels; smaller images are enlarged to it."""

_FONT_SIZE = 16
_LINE = 21
_MARGIN = 10
_GROUND, _INK, _PALE = "white", "#1a1a1a", "#5f5f5f"
_CUT = "…"


@dataclass(frozen=True, eq=False)
class Panel:
    """An image and the text above it.

    Attributes:
        image: The image; all panels must have the same size.
        title: First line of the text, cut to the width of the image.
        note: Second line, cut likewise.
    """

    image: Image.Image
    title: str
    note: str = ""


def enlarged(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return pixels (H, W, 3) as an image of at least `_SIDE` pixels, keeping the aspect ratio."""
    image = Image.fromarray(pixels)
    scale = max(_SIDE / min(image.size), 1)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def draw_panels(panels: Sequence[Panel], path: Path) -> None:
    """Draw panels in a row, as a PNG file.

    Raises:
        OutputError: When the file cannot be written.
    """
    width, height = panels[0].image.size
    top = _MARGIN + 2 * _LINE
    size = (len(panels) * (width + _MARGIN) + _MARGIN, top + height + _MARGIN)
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    for i, panel in enumerate(panels):
        left = _MARGIN + i * (width + _MARGIN)
        draw.text((left, _MARGIN // 2), _fitting(panel.title, width), _INK, _font())
        draw.text((left, _MARGIN // 2 + _LINE), _fitting(panel.note, width), _PALE, _font())
        sheet.paste(panel.image, (left, top))
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG")


def _fitting(text: str, width: int) -> str:
    """Return the text cut to a line of `width` pixels."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if _font().getlength(shown) <= width:
        return shown
    # A letter is at least a pixel wide; measuring a much longer text would be slow.
    shown = shown[:width]
    while shown and _font().getlength(shown + _CUT) > width:
        shown = shown[:-1]
    return shown + _CUT


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Load matplotlib's font, which covers most alphabets and is installed with matplotlib."""
    import matplotlib

    return ImageFont.truetype(
        Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), _FONT_SIZE
    )
