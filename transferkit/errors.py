"""The errors that transferkit shows to its user.

```
TransferKitError        shown as one line; anything else is a bug and keeps its traceback
  OptionError           a value or combination that cannot work        (also ValueError)
  UnknownNameError      a backbone or layer that is not known; carries suggestions
  DataError             folders, labels, images that cannot be used
  WeightsError          pretrained weights that are missing, damaged or of another architecture
  BundleError           a missing, damaged or incompatible model directory
  OutputError           a place that exists already or cannot be written
  DivergedError         a loss that is no number any more
```

Every message says what is wrong and where, what was found, what was expected, and what to do next.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class TransferKitError(Exception):
    """An error of the user's input or surroundings, told in one line.

    Attributes:
        exit_code: What the command line exits with.
    """

    exit_code = 1


class OptionError(TransferKitError, ValueError):
    """An option's value, or a combination of options, that cannot work."""

    exit_code = 2


class UnknownNameError(TransferKitError):
    """A name that is not known.

    Attributes:
        suggestions: Known names close to the one given, best first.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.suggestions = get_close_matches(name, list(known), n=3, cutoff=0.5)
        close = f"; did you mean {', '.join(self.suggestions)}?" if self.suggestions else ""
        super().__init__(f"unknown {kind} {name!r}{close}{'; ' + hint if hint else ''}")


class DataError(TransferKitError):
    """A dataset, or an image in it, that cannot be used."""


class WeightsError(TransferKitError):
    """Pretrained weights that are missing, damaged or of another architecture."""


class BundleError(TransferKitError):
    """A model directory that is missing, damaged or incompatible."""


class OutputError(TransferKitError):
    """A file or folder that exists already or cannot be written."""


class DivergedError(TransferKitError):
    """Training whose loss is no number any more."""


def name_some(names: Sequence[str], limit: int = 5, between: str = ", ") -> str:
    """The first names, and how many more there are.

    >>> name_some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    if len(names) <= limit:
        return between.join(names)
    return f"{between.join(names[:limit])} and {len(names) - limit} more"
