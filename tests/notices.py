"""A reporter that remembers its notices."""

from transferkit.reporter import SilentReporter


class Notices(SilentReporter):
    """Keeps all notices, in their order."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def notice(self, message: str) -> None:
        """Keep a notice."""
        self.all.append(message)
