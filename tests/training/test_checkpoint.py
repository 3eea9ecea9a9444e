"""Checkpoints: when they are written, on a clock that the test sets."""

from types import SimpleNamespace

import pytest

from transferkit.training import checkpoint
from transferkit.training.checkpoint import Checkpoints
from transferkit.training.state import TrainingState


@pytest.fixture
def clock(monkeypatch):
    """A clock in seconds that the test advances; writing a checkpoint takes two seconds."""
    seconds = SimpleNamespace(now=100.0, written=[])

    def save(*_):
        seconds.written.append(seconds.now)
        seconds.now += 2.0

    monkeypatch.setattr(checkpoint, "save_checkpoint", save)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: seconds.now))
    return seconds


def test_after_epoch__spends_less_than_a_twentieth_of_the_time_on_writing(clock, tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1e9)
    for _ in range(10):
        clock.now += 10.0
        checkpoints.after_epoch(None, TrainingState())

    assert clock.written == [110.0, 152.0, 194.0]


def test_after_step__writes_at_the_requested_interval(clock, tmp_path):
    checkpoints = Checkpoints(tmp_path, every=60.0)
    for _ in range(15):
        clock.now += 10.0
        checkpoints.after_step(None, TrainingState())

    assert clock.written == [160.0, 222.0]
