"""The options of `transferkit cache`."""

from dataclasses import dataclass
from typing import Annotated

from transferkit.options.declaration import Option, Options


@dataclass(frozen=True)
class CacheOptions(Options):
    """Options of `transferkit cache`."""

    entries: Annotated[
        tuple[str, ...],
        Option(argument=True, help="Names of cache entries; all of them if none is given."),
    ] = ()
    clear: Annotated[bool, Option(flags=("--clear",), help="Remove these entries.")] = False
