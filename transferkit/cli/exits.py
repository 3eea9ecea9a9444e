"""How a command ends: an error in the user's input becomes one line and an exit code."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from transferkit.cli.console import inert
from transferkit.errors import OutputError, TransferKitError
from transferkit.interruption import Terminated
from transferkit.reporter import LeftOut

SOME_LEFT_OUT = 3
"""Exit code of a command that finished but could not use some of its inputs."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM: 128 plus the signal's number, as in shells."""


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn the errors of the block into messages and exit codes.

    Raises:
        typer.Exit: With the code of a `TransferKitError`, 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        yield
    except TransferKitError as error:
        # Printed without markup or wrapping, in a terminal as in a pipe.
        print(f"error: {inert(str(error))}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except Terminated as stop:
        print("terminated", file=sys.stderr)
        raise typer.Exit(TERMINATED) from stop
    except KeyboardInterrupt as stop:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from stop
    except BrokenPipeError as closed:
        # The reader of our output has closed it, as `head` does.
        _drop_output()
        raise typer.Exit from closed


def write_result(text: str) -> None:
    """Write to standard output without buffering.

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
    # Python flushes standard output when it exits, and would report the error again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_for_unreadable(left_out: Sequence[LeftOut]) -> None:
    """End a finished command with the exit code for unreadable images, if there are any.

    Raises:
        typer.Exit: With code 3, when images could not be read.
    """
    if any(item.unreadable for item in left_out):
        raise typer.Exit(SOME_LEFT_OUT)
