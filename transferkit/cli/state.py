"""What the global options set, for the command that follows them."""

from dataclasses import dataclass

from transferkit.cli.console import ConsoleReporter, standard_error
from transferkit.reporting import SILENT, Reporter


@dataclass
class Settings:
    """The global options.

    Attributes:
        quiet: Whether progress and notices are silenced.
    """

    quiet: bool = False

    def reporter(self) -> Reporter:
        """The reporter that a command hands to its recipe."""
        return SILENT if self.quiet else ConsoleReporter(standard_error())


settings = Settings()
