"""Read the text of an option as its value, where its type does not say how."""

import re
from typing import Literal

AUTO: Literal["auto"] = "auto"
"""The value of an option that a run resolves."""


def number_or_auto(text: str) -> int | None:
    """Parse `auto` as None, and anything else as a whole number.

    Raises:
        ValueError: When it is neither.
    """
    return None if text == AUTO else _whole_number(text)


def count_or_auto(text: str) -> int | Literal["auto"]:
    """Parse `auto` as itself, and anything else as a whole number.

    Raises:
        ValueError: When it is neither.
    """
    return AUTO if text == AUTO else _whole_number(text)


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{text!r} is neither a whole number nor auto")
    return int(text)


def size_in_pixels(text: str) -> int | tuple[int, int]:
    """Parse `N` as the side of a square, and `HxW` as height and width.

    Raises:
        ValueError: When it is neither.
    """
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() for side in sides):
        raise ValueError(
            f"got {text!r}, expected pixels as in 224, or height x width as in 128x256"
        )
    height, width = int(sides[0]), int(sides[-1])
    return height if height == width else (height, width)


def group_pattern(text: str) -> re.Pattern[str]:
    """Parse a regular expression with one or more groups.

    Raises:
        ValueError: When it is not a regular expression, or has no group.
    """
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"got {text!r}, which is not a regular expression ({error})") from error
    if not pattern.groups:
        raise ValueError(f"got {text!r}, expected parentheses around what names the group")
    return pattern


def rate_spread_or_auto(text: str) -> float | tuple[float, float] | Literal["auto"]:
    """Parse `auto` as itself, `A:B` as a pair, and anything else as a number.

    Raises:
        ValueError: When it is none of these.
    """
    if text == AUTO:
        return AUTO
    try:
        lowest, colon, highest = text.partition(":")
        return (float(lowest), float(highest)) if colon else float(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a number, two numbers as in 1e-5:1e-3, or auto"
        ) from None
