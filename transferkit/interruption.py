"""Stopping on Ctrl-C and on SIGTERM: at once, or where work is kept as soon as it is safe."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as schedulers of clusters do before they kill."""


def raise_on_sigterm() -> None:
    """Let SIGTERM end the main thread like Ctrl-C does, so that whatever has begun is tidied."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)


@contextmanager
def deferred_stop() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Within the block the first Ctrl-C or SIGTERM waits; the second one ends it at once.

    Yields:
        A function to call where stopping is safe, with what is to be done before it. If a signal
        has come it does that, then raises `KeyboardInterrupt`, or `Terminated` after SIGTERM. In
        other threads than the main one, which get no signals, it does nothing.
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
