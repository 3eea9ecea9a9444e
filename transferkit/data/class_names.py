"""Names of classes: compared in one Unicode form, and matched with names that are known."""

import unicodedata
from collections.abc import Iterable


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
