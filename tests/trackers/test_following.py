"""A reporter and its trackers: the order of calls, and trackers that fail or do not answer."""

import threading
from pathlib import Path

import pytest
from notices import Notices

from transferkit.reporter import (
    EpochRow,
    Outcome,
    Plan,
    RunEnd,
    RunStart,
    SilentReporter,
    StepRow,
)
from transferkit.trackers import Tracker, following
from transferkit.trackers.following import followed

START = RunStart(Path("run"), {}, Plan((), {}, (), (), ()), is_resumed=False)
STEP = StepRow(1, 1, 0.5, {"head": 0.01})
EPOCH = EpochRow(1, "head", 0.5, 0.8, 0.6, 0.7, 0.01, 0.0, 2.0)


class Remembers(SilentReporter):
    def __init__(self, tell):
        self.calls = []
        tell("a page of the run")

    def began(self, start):
        self.calls.append(("began", start))

    def steps(self, rows):
        self.calls.append(("steps", rows))

    def epoch(self, row, epochs, best):
        self.calls.append(("epoch", row))

    def ended(self, end):
        self.calls.append(("ended", end.outcome))


@pytest.fixture
def use(monkeypatch):
    """Let trackers be what a function creates."""

    def use(create):
        monkeypatch.setattr(following, "_creating", lambda name, comparison: create)

    return use


@pytest.fixture
def remembering(use):
    """The trackers that were created."""
    created = []

    def create(tell):
        created.append(Remembers(tell))
        return created[-1]

    use(create)
    return created


def run_with(reporter, *, end=None, error=None):
    with followed(reporter, (Tracker.CSV,)) as both:
        both.began(START)
        both.steps([STEP])
        both.epoch(EPOCH, 1, True)
        if error:
            raise error
        if end:
            both.ended(end)


def test_followed__gives_a_tracker_everything_in_order(remembering):
    reporter = Notices()
    run_with(reporter, end=RunEnd(Outcome.FINISHED, {}))

    assert [tracker.calls for tracker in remembering] == [
        [("began", START), ("steps", [STEP]), ("epoch", EPOCH), ("ended", Outcome.FINISHED)]
    ]
    assert reporter.all == ["a page of the run"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.STOPPED),
        (KeyboardInterrupt(), Outcome.STOPPED),
        (ValueError("wrong"), Outcome.FAILED),
    ],
)
def test_followed__ends_a_run_that_did_not_end_itself(remembering, error, outcome):
    if error:
        with pytest.raises(type(error)):
            run_with(Notices(), error=error)
    else:
        run_with(Notices())

    assert remembering[0].calls[-1] == ("ended", outcome)


def test_followed__creates_no_tracker_for_a_run_that_does_not_begin(remembering):
    with followed(Notices(), (Tracker.CSV,)) as both:
        both.notice("nothing to do")

    assert remembering == []


def test_followed__is_the_reporter_itself_without_trackers():
    reporter = Notices()
    with followed(reporter, ()) as both:
        assert both is reporter


def test_followed__tells_once_of_a_tracker_that_fails_and_goes_on_with_others(use):
    created = []

    class Fails(Remembers):
        def steps(self, rows):
            raise ConnectionError("the server\nis away")

    def create(tell):
        created.append((Remembers if created else Fails)(tell))
        return created[-1]

    use(create)
    reporter = Notices()
    with followed(reporter, (Tracker.MLFLOW, Tracker.CSV, Tracker.CSV)) as both:
        both.began(START)
        for _ in range(3):
            both.steps([STEP])

    assert len(created) == 2
    assert [len(tracker.calls) for tracker in created].count(5) == 1
    failed = [message for message in reporter.all if "stopped" in message]
    assert len(failed) == 1
    assert failed[0].endswith("stopped recording (the server is away); the run goes on")


def test_followed__leaves_a_tracker_behind_that_does_not_answer(use, monkeypatch):
    monkeypatch.setattr(following, "_TO_BEGIN", 0.01)
    answers = threading.Event()

    def create(tell):
        answers.wait()
        return SilentReporter()

    use(create)
    reporter = Notices()
    run_with(reporter, end=RunEnd(Outcome.FINISHED, {}))
    answers.set()

    assert reporter.all == ["--log csv: does not answer, and lacks the rest of the run"]


def test_followed__waits_longer_for_a_tracker_that_has_begun(use, monkeypatch):
    monkeypatch.setattr(following, "_TO_BEGIN", 0.01)
    told = threading.Event()

    class Slow(SilentReporter):
        def ended(self, end):
            told.wait()

    class Waits(Notices):
        def notice(self, message):
            super().notice(message)
            told.set()

    use(lambda tell: Slow())
    reporter = Waits()
    run_with(reporter, end=RunEnd(Outcome.FINISHED, {}))

    assert reporter.all == ["--log csv: is still taking figures and files; Ctrl-C stops waiting"]
