"""Pictures side by side, each with its name above."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from transferkit.files import whole_file

_SIDE = 288
"""Smallest side of a panel in pixels: those of small networks are scaled up."""

_FONT_SIZE = 16
_LINE = 21
_MARGIN = 10
_GROUND, _INK, _PALE = "white", "#1a1a1a", "#5f5f5f"
_CUT = "…"


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture and what is written above it.

    Attributes:
        picture: Any size, all panels the same.
        title: Its first line, cut where there is no room.
        note: Its second line.
    """

    picture: Image.Image
    title: str
    note: str = ""


def enlarged(pixels: NDArray[np.uint8]) -> Image.Image:
    """(H, W, 3) as a picture that is large enough to look at, in the same proportion."""
    picture = Image.fromarray(pixels)
    scale = max(_SIDE / min(picture.size), 1)
    size = (round(picture.width * scale), round(picture.height * scale))
    return picture.resize(size, Image.Resampling.BICUBIC)


def draw_panels(panels: Sequence[Panel], path: Path) -> None:
    """Draw panels in a row, as a PNG file.

    Raises:
        OutputError: When the file cannot be written.
    """
    width, height = panels[0].picture.size
    top = _MARGIN + 2 * _LINE
    size = (len(panels) * (width + _MARGIN) + _MARGIN, top + height + _MARGIN)
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    for i, panel in enumerate(panels):
        left = _MARGIN + i * (width + _MARGIN)
        draw.text((left, _MARGIN // 2), _fitting(panel.title, width), _INK, _font())
        draw.text((left, _MARGIN // 2 + _LINE), _fitting(panel.note, width), _PALE, _font())
        sheet.paste(panel.picture, (left, top))
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG")


def _fitting(text: str, width: int) -> str:
    """The text in a line of so many pixels, its end cut off where it must be."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if _font().getlength(shown) <= width:
        return shown
    # Far more letters than have room would take long to measure.
    shown = shown[:width]
    while shown and _font().getlength(shown + _CUT) > width:
        shown = shown[:-1]
    return shown + _CUT


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib's own, which has the letters of most alphabets and is there on every machine."""
    import matplotlib

    return ImageFont.truetype(
        Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), _FONT_SIZE
    )
