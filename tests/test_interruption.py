"""Signals stop the program at once, or at the next safe point."""

import os
import signal
import threading

import pytest

from transferkit.interruption import Terminated, deferred_stop, raise_on_sigterm, stop_error


@pytest.fixture(autouse=True)
def handlers():
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_deferred_stop__tells_of_the_signal_and_lets_the_work_continue(number, kind):
    with deferred_stop() as stop:
        before = stop.number
        send(number)

    assert (before, stop.number) == (0, number)
    assert type(stop_error(stop.number)) is kind


def test_deferred_stop__ends_at_once_at_the_second_signal():
    done = []

    def work():
        with deferred_stop():
            send(signal.SIGINT)
            done.append("once")
            send(signal.SIGINT)
            done.append("twice")

    with pytest.raises(KeyboardInterrupt):
        work()

    assert done == ["once"]


def test_deferred_stop__restores_the_handlers():
    before = signal.getsignal(signal.SIGINT)
    with deferred_stop():
        assert signal.getsignal(signal.SIGINT) is not before

    assert signal.getsignal(signal.SIGINT) is before


def test_deferred_stop__does_nothing_in_other_threads():
    done = []

    def work():
        with deferred_stop() as stop:
            done.append(stop.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert done == [0]


def test_raise_on_sigterm__ends_like_ctrl_c():
    raise_on_sigterm()

    with pytest.raises(Terminated):
        send(signal.SIGTERM)
