"""A run's reporter and its trackers as one reporter, in which no tracker can hold up the run.

Each tracker works in a thread of its own, so that neither importing its library nor waiting for its
server takes time from training. One that fails is told once, and gets nothing more.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from transferkit.reporter import (
    EpochRow,
    LeftOut,
    Outcome,
    Plan,
    Progress,
    Reporter,
    RunEnd,
    RunStart,
    StepRow,
)
from transferkit.trackers import TRACKERS, Tracker

_TO_BEGIN = 30.0
"""Seconds after the end of a run in which a tracker must have begun, or it is left behind."""

_TO_FINISH = 600.0
"""Seconds after that in which a tracker that has begun must have taken the rest."""

Create = Callable[[Callable[[str], None]], Reporter]
"""Creates a tracker, which gets a function that tells the user a sentence."""


@contextmanager
def followed(
    reporter: Reporter, trackers: Sequence[Tracker], comparison: Path | None = None
) -> Iterator[Reporter]:
    """Yield a reporter whose reports trackers get, too; they have taken all at the block's end.

    A run that begins in the block and does not end in it has failed if the block raises, and has
    been stopped if not.

    Args:
        reporter: The run's own reporter, which also gets what there is to tell of trackers.
        trackers: The trackers; each is created once the run begins.
        comparison: The folder of the comparison that the run belongs to.
    """
    if not trackers:
        yield reporter
        return
    following = Following(
        reporter, {name: _creating(name, comparison) for name in dict.fromkeys(trackers)}
    )
    try:
        yield following
    except BaseException as error:
        is_stop = isinstance(error, KeyboardInterrupt)
        following.close(Outcome.STOPPED if is_stop else Outcome.FAILED)
        raise
    following.close(Outcome.STOPPED)


def _creating(name: Tracker, comparison: Path | None) -> Create:
    def create(tell: Callable[[str], None]) -> Reporter:
        module = import_module(f"transferkit.trackers.{TRACKERS[name].module}")
        tracker: Reporter = module.Recorder(tell, comparison)
        return tracker

    return create


class Following:
    """A reporter and the trackers that follow it.

    Args:
        reporter: The run's own reporter.
        creating: Name of each tracker -> what creates it.
    """

    follows_steps = True

    def __init__(self, reporter: Reporter, creating: dict[Tracker, Create]) -> None:
        self._reporter = reporter
        self._messages: SimpleQueue[str] = SimpleQueue()
        self._trackers = [
            _InBackground(name, create, self._messages.put) for name, create in creating.items()
        ]
        self._has_begun = self._has_ended = False

    def notice(self, message: str) -> None:
        """Forward the notice."""
        self._reporter.notice(message)
        self._send("notice", message)

    def left_out(self, left_out: Sequence[LeftOut]) -> None:
        """Forward what is left out."""
        self._reporter.left_out(left_out)
        self._send("left_out", left_out)

    def plan(self, plan: Plan) -> None:
        """Forward the plan."""
        self._reporter.plan(plan)
        self._send("plan", plan)

    def began(self, start: RunStart) -> None:
        """Forward the beginning, and start the trackers."""
        self._reporter.began(start)
        self._has_begun = True
        for tracker in self._trackers:
            tracker.start()
        self._send("began", start)

    def steps(self, rows: Sequence[StepRow]) -> None:
        """Forward the steps."""
        if self._reporter.follows_steps:
            self._reporter.steps(rows)
        self._send("steps", rows)

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Forward the epoch; to trackers first, because a run may stop while it is printed."""
        self._send("epoch", row, epochs, best)
        self._reporter.epoch(row, epochs, best)

    def resumable(self, command: str) -> None:
        """Forward the command."""
        self._reporter.resumable(command)
        self._send("resumable", command)

    def ended(self, end: RunEnd) -> None:
        """Forward the end."""
        self._has_ended = True
        self._reporter.ended(end)
        self._send("ended", end)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Progress]:
        """Open a count of the run's own reporter."""
        with self._reporter.progress(description, total) as progress:
            yield progress

    def close(self, outcome: Outcome) -> None:
        """End a run that has begun and not ended, and wait for the trackers to take the rest."""
        if not self._has_begun:
            return
        if not self._has_ended:
            self.ended(RunEnd(outcome, {}))
        for tracker in self._trackers:
            tracker.finish(self._reporter.notice)
        self._tell()

    def _send(self, call: str, *arguments: object) -> None:
        for tracker in self._trackers:
            tracker.send(call, arguments)
        self._tell()

    def _tell(self) -> None:
        """Tell what trackers left to be told, from the thread that all other notices come from."""
        while not self._messages.empty():
            self._reporter.notice(self._messages.get())


class _InBackground:
    """A tracker that takes its calls one after the other in a thread of its own.

    Args:
        name: Its name, for messages.
        create: Creates it, in that thread.
        tell: Leaves a sentence to be told; called in that thread.
    """

    def __init__(self, name: Tracker, create: Create, tell: Callable[[str], None]) -> None:
        self._name, self._create, self._tell = name, create, tell
        self._calls: SimpleQueue[tuple[str, tuple[Any, ...]] | None] = SimpleQueue()
        self._has_begun = threading.Event()
        # Python ends without waiting for it, whatever it waits for.
        self._thread = threading.Thread(target=self._work, name=f"--log {name}", daemon=True)

    def start(self) -> None:
        """Start taking calls, those before included."""
        self._thread.start()

    def send(self, call: str, arguments: tuple[Any, ...]) -> None:
        """Leave a call to the tracker."""
        self._calls.put((call, arguments))

    def finish(self, notice: Callable[[str], None]) -> None:
        """Wait until the calls so far are taken; give up if that takes too long."""
        self._calls.put(None)
        self._thread.join(_TO_BEGIN)
        if self._thread.is_alive() and self._has_begun.is_set():
            notice(f"--log {self._name}: is still taking figures and files; Ctrl-C stops waiting")
            self._thread.join(_TO_FINISH)
        if self._thread.is_alive():
            self._tell(f"--log {self._name}: does not answer, and lacks the rest of the run")

    def _work(self) -> None:
        try:
            tracker = self._create(self._tell)
            while (item := self._calls.get()) is not None:
                call, arguments = item
                getattr(tracker, call)(*arguments)
                if call == "began":
                    self._has_begun.set()
        except Exception as error:
            # Libraries raise errors of any class, and none is worth the run.
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            self._tell(f"--log {self._name}: stopped recording ({reason}); the run goes on")
