"""Where the time of a run went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

START_UP, CHECKING, FROZEN, TRAINING, EVALUATION, REPORT = (
    "start_up", "checking", "frozen_layers", "training", "evaluation", "report",
)  # fmt: skip
_OTHER = "other"


class Stopwatch:
    """Adds up wall time by what it was spent on, from the moment it is made.

    Args:
        began: When the process began, on the clock of `time.perf_counter`. The time since then
            counts as start-up. None where the process began for other purposes.
    """

    def __init__(self, began: float | None = None) -> None:
        self._started = time.perf_counter()
        self._before = 0.0 if began is None else self._started - began
        parts = (START_UP, CHECKING, FROZEN, TRAINING, EVALUATION, REPORT)
        self._parts: dict[str, float] = dict.fromkeys(parts, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's time to a part."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started)

    def add(self, name: str, seconds: float) -> None:
        """Count seconds to a part."""
        self._parts[name] += seconds

    def seconds(self, name: str) -> float:
        """What a part has so far."""
        return self._parts[name]

    def resume_from(self, seconds: float) -> None:
        """Add the seconds that an interrupted process has spent; its parts are added with ours."""
        self._started -= seconds

    @property
    def total(self) -> float:
        """Seconds since it was made, and those before."""
        return time.perf_counter() - self._started

    def report(self) -> dict[str, float]:
        """Seconds of every part, and of what is none; the process before counts as start-up."""
        other = self.total - sum(self._parts.values())
        start_up = self._before + self._parts[START_UP]
        return {**self._parts, START_UP: start_up, _OTHER: other}
