"""The figures of every step, for a reporter that follows them, without waiting for the device."""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from transferkit.reporter import Reporter, StepRow
from transferkit.training.optimizer import stage_rates
from transferkit.training.setup import TrainingSetup


class FollowedSteps:
    """Keeps steps until the loop reads numbers from the device anyway.

    It keeps nothing where the reporter does not follow steps.

    Attributes:
        losses: The loss of each step that is not reported yet, a scalar on the device. Each of
            several processes has the part that its own images make, and all have as many.
    """

    def __init__(self, setup: TrainingSetup, reporter: Reporter) -> None:
        self.losses: list[Tensor] = []
        self._rows: list[StepRow] = []
        self._rates: dict[str, float] = {}
        self._setup, self._reporter = setup, reporter

    def begin_step(self) -> None:
        """Note the learning rates, which the step changes to those of the next one."""
        if self._reporter.follows_steps:
            self._rates = stage_rates(self._setup.optimizer)

    def end_step(self, epoch: int, loss: Tensor) -> None:
        """Add a step of an epoch and its loss."""
        if self._reporter.follows_steps:
            self._rows.append(StepRow(self._setup.schedule.done, epoch, math.nan, self._rates))
            self.losses.append(loss)

    def report(self, losses: Sequence[float]) -> None:
        """Report the steps that were added, with `losses` as numbers, and forget them."""
        rows = [replace(row, loss=loss) for row, loss in zip(self._rows, losses, strict=True)]
        self._rows, self.losses = [], []
        if rows:
            self._reporter.steps(rows)
