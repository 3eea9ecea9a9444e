"""The time of a run, by what it was spent on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

START_UP, CHECKING, FROZEN, TRAINING, EVALUATION, REPORT = (
    "start_up", "checking", "frozen_layers", "training", "evaluation", "report",
)  # fmt: skip
_OTHER = "other"


class Stopwatch:
    """Adds up wall time by what it is spent on, starting when it is created.

    Args:
        began: When the process began, on the clock of `time.perf_counter`. The time from then on
            counts as start-up. None where the process was started for another purpose.
    """

    def __init__(self, began: float | None = None) -> None:
        self._started = time.perf_counter()
        self._before = 0.0 if began is None else self._started - began
        parts = (START_UP, CHECKING, FROZEN, TRAINING, EVALUATION, REPORT)
        self._parts: dict[str, float] = dict.fromkeys(parts, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a part."""
        self._parts[name] += seconds

    def seconds(self, name: str) -> float:
        """Return the seconds of a part so far."""
        return self._parts[name]

    def resume_from(self, seconds: float) -> None:
        """Add the total seconds of an interrupted process, whose parts are added separately."""
        self._started -= seconds

    @property
    def total(self) -> float:
        """Seconds since the stopwatch was created, plus those of interrupted processes."""
        return time.perf_counter() - self._started

    @property
    def start_up(self) -> float:
        """Seconds in which the process started and its libraries were imported."""
        return self._before + self._parts[START_UP]

    @property
    def since_process_began(self) -> float:
        """Seconds since the process began, if it carries out one run; else the total."""
        return self._before + self.total

    def report(self) -> dict[str, float]:
        """Return the seconds of every part; the rest is `other`, and `began` adds to start-up."""
        other = self.total - sum(self._parts.values())
        return {**self._parts, START_UP: self.start_up, _OTHER: other}
