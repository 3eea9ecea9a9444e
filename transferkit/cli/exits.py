"""How a command ends: errors of the user's input become one line and an exit code."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from transferkit.cli.console import inert
from transferkit.errors import OutputError, TransferKitError
from transferkit.interruption import Terminated
from transferkit.reporting import LeftOut

SOME_LEFT_OUT = 3
"""Exit code of a command that is done, but could not use some of its inputs."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM, as shells have them: 128 and the signal's number."""


@contextmanager
def exit_codes() -> Iterator[None]:
    """Run a command's work in it.

    Raises:
        typer.Exit: With the code of a `TransferKitError`, 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        yield
    except TransferKitError as error:
        # The text as it is, without markup or wrapping, in a pipe as in a terminal.
        print(f"error: {inert(str(error))}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except Terminated as stop:
        print("terminated", file=sys.stderr)
        raise typer.Exit(TERMINATED) from stop
    except KeyboardInterrupt as stop:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from stop
    except BrokenPipeError as closed:
        # Who reads our output has seen enough, as `head` does.
        _drop_output()
        raise typer.Exit from closed


def write_result(text: str) -> None:
    """Write to standard output at once.

    Raises:
        OutputError: When it cannot be written, as on a full device.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error


def _drop_output() -> None:
    # Python flushes standard output at its end, and would complain there once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_for_unreadable(left_out: Sequence[LeftOut]) -> None:
    """End a command that is done.

    Raises:
        typer.Exit: With code 3, when images could not be read.
    """
    if any(item.unreadable for item in left_out):
        raise typer.Exit(SOME_LEFT_OUT)
