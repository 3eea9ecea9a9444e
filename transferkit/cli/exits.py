"""How a command ends: an error in the user's input becomes one line and an exit code.

Of several processes, each leaves its error in the file that torch's launcher provides for it, so
that our launcher tells the first error in one line. Under `torchrun` the first process speaks.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from transferkit.cli.console import inert
from transferkit.errors import OtherProcessError, OutputError, TransferKitError
from transferkit.interruption import Terminated
from transferkit.processes import started_processes
from transferkit.reporter import LeftOut

SOME_LEFT_OUT = 3
"""Exit code of a command that finished but could not use some of its inputs."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM: 128 plus the signal's number, as in shells."""


LAUNCHED = "TRANSFERKIT_LAUNCHED"
"""Set for the processes that our own launcher starts, which leave telling errors to it."""

EXIT_CODE = "exit_code"
"""Key in an error file that only `exit_codes` writes."""

_UNTIL_ENDED = 20
"""Seconds in which a launcher has noticed a process that failed, and ended the others."""

_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Names the file in which torch's launcher looks for the error of a process."""


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn the errors of the block into messages and exit codes.

    Raises:
        typer.Exit: With the code of a `TransferKitError`, 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        yield
    except TransferKitError as error:
        if isinstance(error, OtherProcessError):
            _wait_to_be_ended()
        _tell_error(str(error), error.exit_code)
        raise typer.Exit(error.exit_code) from error
    except Terminated as stop:
        _tell_stop("terminated")
        raise typer.Exit(TERMINATED) from stop
    except KeyboardInterrupt as stop:
        _tell_stop("interrupted")
        raise typer.Exit(INTERRUPTED) from stop
    except BrokenPipeError as closed:
        # The reader of our output has closed it, as `head` does.
        _drop_output()
        # Of several processes, the others would wait for this one.
        raise typer.Exit(int(started_processes().are_several)) from closed


def print_error(text: str) -> None:
    """Print an error as one line, without markup or wrapping, in a terminal as in a pipe."""
    print(f"error: {inert(text)}", file=sys.stderr)


def _tell_error(text: str, exit_code: int) -> None:
    is_told = False
    if started_processes().are_several and (file := os.environ.get(_ERROR_FILE)):
        content = {"message": text, "timestamp": int(time.time()), EXIT_CODE: exit_code}
        with suppress(OSError):
            Path(file).write_text(json.dumps(content), "utf-8")
            is_told = True
    if _speaks() or not (is_told or started_processes().is_first):
        print_error(text)


def _tell_stop(text: str) -> None:
    if _speaks():
        print(text, file=sys.stderr)


def _speaks() -> bool:
    processes = started_processes()
    return processes.is_first and not (processes.are_several and LAUNCHED in os.environ)


def _wait_to_be_ended() -> None:
    """Wait for the launcher to end this process, because another one has failed.

    The launcher takes the first process that ends for the one that failed. If none ends, because
    they cannot reach each other, this process goes on to tell that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    time.sleep(_UNTIL_ENDED)


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
        typer.Exit: With code 3, when images could not be read. Not under torchrun, which would take
            it for a failure.
    """
    is_ours = not started_processes().are_several or LAUNCHED in os.environ
    if is_ours and any(item.unreadable for item in left_out):
        raise typer.Exit(SOME_LEFT_OUT)
