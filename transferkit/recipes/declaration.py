"""How an option is declared: one field holds its default, range, help and names."""

import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from types import NoneType
from typing import Any, ClassVar, Literal, get_args

from transferkit.errors import OptionError


@dataclass(frozen=True)
class Range:
    """An interval that a number must lie in.

    Attributes:
        low: Lower end.
        high: Upper end.
        open_low: Whether the lower end itself is excluded.
        open_high: Whether the upper end itself is excluded.
    """

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return (
            math.isfinite(value)
            and above
            and (value < self.high if self.open_high else value <= self.high)
        )

    def __str__(self) -> str:
        low = f"more than {self.low:g}" if self.open_low else f"{self.low:g} or more"
        if self.high == math.inf:
            return low
        return f"{low} and {'less than' if self.open_high else 'at most'} {self.high:g}"


def option(
    default: Any = MISSING,
    *,
    help: str,
    argument: bool = False,
    panel: str = "Options",
    flags: Sequence[str] = (),
    within: Range | None = None,
    parse: Callable[[str], Any] | None = None,
    metavar: str | None = None,
    show_default: str | bool = True,
) -> Any:
    """Declare a field of an options class.

    Args:
        default: Its default; without one it is required.
        help: What it means, for --help.
        argument: Whether it is an argument, given by its place and not by a flag.
        panel: The part of --help that lists it.
        flags: Its names on the command line; `--field-name` where none are given.
        within: The range of a number.
        parse: Turns the command line's text into the value.
        metavar: What stands for the value in --help.
        show_default: How --help shows the default.
    """
    metadata = {
        "help": help,
        "argument": argument,
        "panel": panel,
        "flags": tuple(flags),
        "within": within,
        "parse": parse,
        "metavar": metavar,
        "show_default": show_default,
    }
    return field(default=default, metadata=metadata)


def flag_of(entry: Field[Any]) -> str:
    """What messages call a field: `--val-fraction`, or `DATA` for an argument.

    Of one that is on by default, such as `--report/--no-report`, what turns it off.
    """
    if entry.metadata["argument"]:
        return entry.name.upper()
    flags = entry.metadata["flags"] or (f"--{entry.name.replace('_', '-')}",)
    return str(flags[-1]).rpartition("/")[2]


def changed(options: "Options", names: Sequence[str]) -> list[str]:
    """The flags of those of the named fields that do not have their default."""
    named = {entry.name: entry for entry in fields(options)}
    return [flag_of(named[name]) for name in names if getattr(options, name) != named[name].default]


def number_or_auto(text: str) -> int | None:
    """`auto` as None, anything else as a whole number.

    Raises:
        ValueError: When it is neither.
    """
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{text!r} is neither a whole number nor auto")
    return int(text)


AUTO: Literal["auto"] = "auto"


def rate_spread_or_auto(text: str) -> float | tuple[float, float] | Literal["auto"]:
    """`auto` as it is, `A:B` as a pair, anything else as a number.

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
            f"{text!r} is neither a number, nor two as in 1e-5:1e-3, nor auto"
        ) from None


class Options:
    """Checks and completes its fields when it is made."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, within = _typed(entry, getattr(self, entry.name)), entry.metadata["within"]
            value = tuple(value) if isinstance(value, list) else value
            object.__setattr__(self, entry.name, value)
            numbers = value if isinstance(value, tuple) else (value,)
            for number in numbers if within is not None else ():
                if number not in (None, AUTO) and number not in within:
                    raise OptionError(f"{flag_of(entry)}: got {number}, expected {within}")


def _typed(entry: Field[Any], value: Any) -> Any:
    # The library's callers may write what the command line takes: choices, paths and the like.
    if entry.metadata["parse"] and isinstance(value, str):
        try:
            return entry.metadata["parse"](value)
        except ValueError as error:
            raise OptionError(f"{flag_of(entry)}: {error}") from error
    kinds = [kind for kind in get_args(entry.type) or (entry.type,) if kind is not NoneType]
    if not isinstance(value, str) or str in kinds or len(kinds) != 1:
        return value
    try:
        return kinds[0](value)
    except ValueError as error:
        choices = ", ".join(kinds[0]) if issubclass(kinds[0], StrEnum) else kinds[0].__name__
        raise OptionError(f"{flag_of(entry)}: got {value!r}, expected {choices}") from error
