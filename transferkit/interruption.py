"""Stop on Ctrl-C and SIGTERM: at once, or at the next point where no work is lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM asked the process to end; cluster schedulers send it before they kill a job."""


def raise_on_sigterm() -> None:
    """Let SIGTERM end the main thread like Ctrl-C, so that the process cleans up after itself."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)


@contextmanager
def deferred_stop() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Defer the first Ctrl-C or SIGTERM in the block; a second one ends the block at once.

    Yields:
        A function to call wherever it is safe to stop. If a signal has arrived, it calls its
        argument, which may save the work, and then raises `KeyboardInterrupt`, or `Terminated`
        after SIGTERM. Outside the main thread, which alone receives signals, it does nothing.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            raise _error(number)
        came.append(number)

    def check_stop(before: Callable[[], None]) -> None:
        if came:
            before()
            raise _error(came[0])

    if threading.current_thread() is not threading.main_thread():
        yield check_stop
        return
    handlers = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check_stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _error(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
