"""How the learning rates move: every group by the same factor, so that their ratios stay.

Needs no torch to be imported.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer

WARMUP_FRACTION = 0.1
"""Share of the steps in which the rates rise; field practice is 5 to 10 %."""


class Scheduler(StrEnum):
    """timm's schedulers, over the whole run, after a warm-up.

    `cosine` and `tanh` fall to nothing along these curves, `poly` in a straight line; `step` falls
    to a tenth at each third of the run, `multistep` at 60 and 85 %; `none` stays, without warm-up.
    """

    COSINE = "cosine"
    TANH = "tanh"
    POLY = "poly"
    STEP = "step"
    MULTISTEP = "multistep"
    NONE = "none"


def create_schedule(optimizer: Optimizer, scheduler: Scheduler, *, steps: int) -> Schedule:
    """The schedule of a run of so many steps, set to its first step's rates."""
    from timm.scheduler import create_scheduler_v2

    warmup = int(WARMUP_FRACTION * steps)
    # timm's floors (`warmup_lr`, `min_lr`) are absolute, the same for every group: only at zero do
    # they leave the ratios between groups alone. Its epochs are our steps; a rise from zero is
    # counted from 1, so that no step is taken at a rate of nothing.
    first = 1 if warmup else 0
    falling = steps - warmup
    timms, _ = create_scheduler_v2(
        optimizer,
        sched=scheduler.value,
        num_epochs=falling + first,
        warmup_epochs=warmup,
        warmup_prefix=True,
        warmup_lr=0.0,
        min_lr=0.0,
        decay_epochs=-(-falling // 3),
        decay_milestones=[1 + math.ceil(share * falling) for share in (0.6, 0.85)],
        decay_rate=1.0 if scheduler is Scheduler.POLY else 0.1,  # poly takes it as its power
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    return Schedule(timms, first)


class Schedule:
    """Sets the rates of each step.

    Attributes:
        done: Steps taken.
    """

    def __init__(self, timms: Any, first: int) -> None:
        self._timms, self._first = timms, first
        self.go_to(0)

    def go_to(self, done: int) -> None:
        """Set the rates of the step after `done` steps."""
        self.done = done
        if self._timms is not None:
            self._timms.step_update(done + self._first)

    def step(self) -> None:
        """Set the rates of the next step."""
        self.go_to(self.done + 1)
