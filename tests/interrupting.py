"""Interrupt a run in this process at a chosen step."""

import os
import signal

import pytest

from transferkit.training.checkpoint import Checkpoints


def stop_after(
    monkeypatch: pytest.MonkeyPatch, steps: int, number: signal.Signals = signal.SIGINT
) -> None:
    """Send a signal during training step `steps`, counted over the whole process."""
    seen = []

    def counted(self, setup, state):
        seen.append(state)
        if len(seen) == steps:
            os.kill(os.getpid(), number)
        after_step(self, setup, state)

    after_step = Checkpoints.after_step
    monkeypatch.setattr(Checkpoints, "after_step", counted)
