"""Check the value of an option against its type, and convert what Python callers may write."""

import os
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from transferkit.places import Url, is_url

_SHOWN = Repr()
_SHOWN.maxstring = _SHOWN.maxother = 60

_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path of this machine",
    Url: "an address such as s3://bucket/folder",
    NoneType: "None",
}


def converted(kind: Any, value: Any) -> Any:
    """Return the value as the type of an option.

    A whole number may be written as 2.0, a number as text, a path or a choice as text, and a list
    of one as that one. Scalars and arrays of numpy count as what they hold.

    Raises:
        ValueError: When the value is none of these; says what it is and what is expected.
    """
    plain = _plain(value)
    for alternative in _alternatives(kind):
        try:
            return _as_kind(alternative, plain)
        except (ValueError, TypeError, OverflowError):
            continue
    raise ValueError(f"got {_SHOWN.repr(value)}, expected {_describe(kind)}")


def _plain(value: Any) -> Any:
    """Return the number or text in a scalar of numpy; anything else as it is."""
    is_scalar = getattr(value, "shape", None) == () and hasattr(value, "item")
    return value.item() if is_scalar else value


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _as_kind(kind: Any, value: Any) -> Any:
    """Return the value as one type that is no union.

    Raises:
        ValueError: When it is another one.
        TypeError: When it is another one.
        OverflowError: When the number is too large.
    """
    if get_origin(kind) is tuple:
        return _as_tuple(get_args(kind), value)
    if get_origin(kind) is Literal:
        return _require(value, isinstance(value, str) and value in get_args(kind))
    if kind in (int, float):
        return _as_number(kind, value)
    if kind in (str, Path, Url):
        return _as_text(kind, value)
    if get_origin(kind) is re.Pattern:
        return _require(value, isinstance(value, re.Pattern) and isinstance(value.pattern, str))
    if issubclass(kind, StrEnum) and isinstance(value, str):
        return kind(value)
    return _require(value, isinstance(value, kind))


def _as_number(kind: type[int] | type[float], value: Any) -> int | float:
    _require(value, isinstance(value, int | float | str) and not isinstance(value, bool))
    number = kind(value)
    _require(value, isinstance(value, str) or number == value or kind is float)
    return number


def _as_text(kind: type[str] | type[Path], value: Any) -> str | Path:
    text = os.fspath(value)
    _require(text, isinstance(text, str) and bool(text) and "\0" not in text)
    # A path would make a folder called "s3:" of an address.
    return kind(_require(text, kind is not Path or not is_url(text)))


def _as_tuple(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if hasattr(value, "tolist"):
        value = value.tolist()  # an array of numpy or a column of pandas
    if kinds[-1] is Ellipsis:
        is_list = isinstance(value, list | tuple | Iterator)
        return tuple(_as_kind(kinds[0], _plain(item)) for item in (value if is_list else [value]))
    _require(value, isinstance(value, list | tuple) and len(value) == len(kinds))
    return tuple(_as_kind(kind, _plain(item)) for kind, item in zip(kinds, value, strict=True))


def _require(value: Any, holds: bool) -> Any:
    if not holds:
        raise ValueError
    return value


def _describe(kind: Any) -> str:
    return " or ".join(_describe_one(alternative) for alternative in _alternatives(kind))


def _describe_one(kind: Any) -> str:
    arguments = get_args(kind)
    if get_origin(kind) is re.Pattern:
        return "a regular expression"
    if get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if arguments and arguments[-1] is Ellipsis:
        return f"{_describe(arguments[0])} or a list of them"
    if arguments:
        return f"a pair of {_describe(arguments[0]).removeprefix('a ')}s"
    if kind in _NAMES:
        return _NAMES[kind]
    return ", ".join(kind) if issubclass(kind, StrEnum) else f"{kind.__name__} or text"
