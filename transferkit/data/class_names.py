"""Names of classes: in one Unicode form, matched with names that are known, and as folders."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import count

_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
"""Characters that some system allows in no name of a file."""

_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
"""Names that Windows keeps for devices, with any suffix."""

_LONGEST = 200
"""Bytes of a folder's name; file systems take 255, of which a number may need some."""


def normalized(name: str) -> str:
    """Return a name in Unicode's form NFC; file systems store names in different forms."""
    return unicodedata.normalize("NFC", name)


def lookalikes(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of names that differ only in case or spaces."""
    first: dict[str, str] = {}
    pairs = ((first.setdefault(_loosely(name), name), name) for name in names)
    return [(one, other) for one, other in pairs if one != other]


def describe_unknown(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return names as messages show them, each with the known name that it resembles."""
    close = {_loosely(name): name for name in known}
    return [
        f"{name!r}, where {close[key]!r} is known" if (key := _loosely(name)) in close else name
        for name in names
    ]


def _loosely(name: str) -> str:
    return "".join(normalized(name).casefold().split())


def folder_names(names: Iterable[str], reserved: Iterable[str]) -> dict[str, str]:
    """Return a folder for each class: its name, changed where a file system would refuse it.

    Names that a file system may take for the same are numbered. A name that needs no change keeps
    it, whatever the others are.

    Args:
        names: Names of the classes.
        reserved: Names of other files and folders beside them.

    >>> folder_names(["a/b", "a_b", "..", "unsure"], reserved=["unsure"])
    {'a_b': 'a_b', 'unsure': 'unsure-2', 'a/b': 'a_b-2', '..': '_'}
    """
    taken = {_same(name) for name in reserved}
    folders: dict[str, str] = {}
    # Those that need no change come first; `sorted` keeps the order of the others.
    for name in sorted(dict.fromkeys(names), key=lambda name: _safe(name) != name):
        folder = next(one for one in _numbered(_safe(name)) if _same(one) not in taken)
        taken.add(_same(folder))
        folders[name] = folder
    return folders


def _safe(name: str) -> str:
    name = _NOT_IN_NAMES.sub("_", name).rstrip(". ") or "_"
    if name.startswith("."):
        name = f"_{name[1:]}"  # a hidden folder would not be read as a class
    if _DEVICES.match(name):
        name = f"_{name}"
    # Bytes that are not UTF-8 are lone surrogates; any others no file system takes.
    encoded = re.sub(r"[\ud800-\udc7f\udd00-\udfff]", "_", name).encode("utf-8", "surrogateescape")
    if len(encoded) <= _LONGEST:
        return encoded.decode("utf-8", "surrogateescape")
    return encoded[:_LONGEST].decode("utf-8", "ignore").rstrip(". ")


def _same(name: str) -> str:
    return normalized(name).casefold()


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in count(2))
