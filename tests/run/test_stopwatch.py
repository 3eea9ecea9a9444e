"""The stopwatch, on a clock that the test sets."""

import pytest

from transferkit.run import stopwatch
from transferkit.run.stopwatch import FROZEN, START_UP, Stopwatch


@pytest.fixture
def clock(monkeypatch):
    seconds = [100.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: seconds[0])
    return seconds


def test_stopwatch__counts_time_since_the_process_began_as_start_up(clock):
    watch = Stopwatch(began=92.0)
    with watch.part(START_UP):
        clock[0] = 101.0
    with watch.part(FROZEN):
        clock[0] = 104.0
    clock[0] = 104.5

    report = watch.report()
    assert (report[START_UP], report[FROZEN], report["other"]) == (9.0, 3.0, 0.5)
    assert watch.total == 4.5


def test_stopwatch__counts_no_start_up_when_called_from_python(clock):
    assert Stopwatch().report()[START_UP] == 0.0
