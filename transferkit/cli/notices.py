"""Telling what could not be used."""

from collections.abc import Sequence

import typer

from transferkit.cli.console import standard_error

SOME_LEFT_OUT = 3
"""Exit code of a command that is done, but could not use some of its inputs."""


def exit_when_left_out(left_out: Sequence[Sequence[str]]) -> None:
    """Name inputs that could not be used and exit with 3; nothing when there are none.

    Raises:
        typer.Exit: With code 3, when there are any.
    """
    if not left_out:
        return
    console = standard_error()
    for path, reason in left_out:
        console.print(f"left out: {path}: {reason}", soft_wrap=True, markup=False)
    raise typer.Exit(SOME_LEFT_OUT)
