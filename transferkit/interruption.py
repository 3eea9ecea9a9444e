"""Stop on Ctrl-C and SIGTERM: at once, or at the next point where no work is lost."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

TIME_TO_STOP = 300
"""Seconds that several processes have to end their step and save their state, once their launcher
has received a signal or has ended."""

_LOOK_EVERY = 0.5


class Terminated(KeyboardInterrupt):
    """SIGTERM asked the process to end; cluster schedulers send it before they kill a job."""


def raise_on_sigterm() -> None:
    """Let SIGTERM end the main thread like Ctrl-C, so that the process cleans up after itself."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)


@dataclass
class DeferredStop:
    """A signal that arrived while stopping was deferred.

    Attributes:
        number: Number of the signal; 0 before one arrives.
    """

    number: int = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        """Receive a signal; a second one raises its error at once."""
        if self.number:
            raise stop_error(number)
        self.number = number


@contextmanager
def deferred_stop() -> Iterator[DeferredStop]:
    """Defer the first Ctrl-C or SIGTERM in the block; a second one ends the block at once.

    Yields:
        The signal, once it has arrived; raise its `stop_error` wherever it is safe. Outside the
        main thread, which alone receives signals, none arrives.
    """
    stop = DeferredStop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handlers = {
        number: signal.signal(number, stop.note) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def stop_error(number: int) -> KeyboardInterrupt:
    """Return the error of a signal: `Terminated` for SIGTERM, else `KeyboardInterrupt`."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def end_with_parent() -> None:
    """Send this process SIGTERM when its parent ends without ending it, and SIGKILL later."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(TIME_TO_STOP)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
