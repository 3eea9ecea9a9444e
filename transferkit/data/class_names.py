"""Names of classes: compared in one Unicode form, and matched with names that are known."""

import unicodedata
from collections.abc import Iterable


def normalized(name: str) -> str:
    """Return a name in Unicode's form NFC; file systems store names in different forms."""
    return unicodedata.normalize("NFC", name)


def lookalike(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that differs from a name only in case or spaces, if there is one."""
    return next((other for other in known if _loosely(other) == _loosely(name)), None)


def _loosely(name: str) -> str:
    return "".join(normalized(name).casefold().split())


def describe_unknown(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return names as messages show them, each with the known name that it resembles."""
    known = list(known)
    described = []
    for name in names:
        close = lookalike(name, known)
        described.append(f"{name!r}, where {close!r} is known" if close else name)
    return described
