"""The options of `transferkit backbones`."""

from dataclasses import dataclass
from typing import Annotated

from transferkit.options.declaration import Option, Options


@dataclass(frozen=True)
class BackbonesOptions(Options):
    """Options of `transferkit backbones`."""

    pattern: Annotated[
        str, Option(argument=True, help="Part of the name, or a pattern with * and ?.")
    ] = "*"
    local: Annotated[
        bool,
        Option(flags=("--local",), help="List only backbones whose weights are on this machine."),
    ] = False
