"""How a command ends: errors of the user's input become one line and an exit code."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from transferkit.cli.console import standard_error
from transferkit.errors import TransferKitError

SOME_LEFT_OUT = 3
"""Exit code of a command that is done, but could not use some of its inputs."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the signal's number."""


@contextmanager
def exit_codes() -> Iterator[None]:
    """Run a command's work in it.

    Raises:
        typer.Exit: With the code of a `TransferKitError`, or 130 after Ctrl-C.
    """
    try:
        yield
    except TransferKitError as error:
        # The text as it is, without markup or wrapping, in a pipe as in a terminal.
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as stop:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from stop
    except BrokenPipeError as closed:
        # Who reads our output has seen enough, as `head` does. Python would complain once more
        # when it flushes standard output at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from closed


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
