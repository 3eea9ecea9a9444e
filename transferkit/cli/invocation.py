"""What a command gets from the command line besides its options."""

from dataclasses import dataclass

from transferkit.cli.console import ConsoleReporter, standard_error
from transferkit.reporter import SILENT, Reporter


@dataclass(frozen=True)
class Invocation:
    """One call of the command line.

    Attributes:
        reporter: Receives progress and notices.
        began: When the process began, on the clock of `time.perf_counter`; None where the process
            is not the command line's own.
    """

    reporter: Reporter
    began: float | None = None


def create_reporter(quiet: bool) -> Reporter:
    """Return a reporter that writes to standard error, or a silent one."""
    return SILENT if quiet else ConsoleReporter(standard_error())
