"""The errors that transferkit shows to the user.

```
TransferKitError        shown as one line; any other exception is a bug and keeps its traceback
  OptionError           a value or combination of values that cannot work (also a ValueError)
  UnknownNameError      an unknown backbone or layer; has suggestions
  DataError             folders, labels or images that cannot be used
    ImageTypeError      a value that is no image (also a TypeError)
  WeightsError          pretrained weights that are missing, damaged or for another architecture
  BundleError           a model folder that is missing, damaged or incompatible
  OutputError           an output that already exists or cannot be written
  StoreError            a store of files, such as S3, that cannot be reached or does not deliver
  EngineError           an engine that is missing, or cannot run a network or a file
  DivergedError         the loss is no longer finite
  OtherProcessError     another of the processes that train together has failed
```

Every message says what is wrong, where, what was found, what was expected, and what to do next.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class TransferKitError(Exception):
    """An error in the user's input or environment, shown as one line.

    Attributes:
        exit_code: Exit code of the command line.
    """

    exit_code = 1


class OptionError(TransferKitError, ValueError):
    """An option's value, or a combination of options, cannot work."""

    exit_code = 2


class UnknownNameError(TransferKitError):
    """A name is not known.

    Attributes:
        suggestions: Known names close to the given one, the closest first.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.suggestions = get_close_matches(name, list(known), n=3, cutoff=0.5)
        close = f"; did you mean {', '.join(self.suggestions)}?" if self.suggestions else ""
        super().__init__(f"unknown {kind} {name!r}{close}{'; ' + hint if hint else ''}")


class DataError(TransferKitError):
    """A dataset, or an image in it, cannot be used."""


class ImageTypeError(DataError, TypeError):
    """A value is no image, and no list of images."""


class WeightsError(TransferKitError):
    """Pretrained weights are missing, damaged or for another architecture."""


class BundleError(TransferKitError):
    """A model folder is missing, damaged or incompatible."""


class OutputError(TransferKitError):
    """An output file or folder already exists or cannot be written."""


class StoreError(TransferKitError):
    """A store of files, such as S3, cannot be reached, or does not deliver."""


class EngineError(TransferKitError):
    """An engine is not installed, or cannot run a network or a file."""


class DivergedError(TransferKitError):
    """The training loss is no longer finite."""


class OtherProcessError(TransferKitError):
    """Another of the processes that train together has failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"another process of this run has failed or cannot be reached ({reason}); mend that, "
            "and resume from the last checkpoint with --resume"
        )


def name_some(names: Sequence[str], limit: int = 5, between: str = ", ") -> str:
    """Return the first names, and the number of the others.

    >>> name_some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    if len(names) <= limit:
        return between.join(names)
    return f"{between.join(names[:limit])} and {len(names) - limit} more"
