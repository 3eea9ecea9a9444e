"""Learning rate schedules: all groups are scaled by the same factor, so their ratios stay.

Importing this module does not import torch.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer

WARMUP_FRACTION = 0.1
"""Share of the steps used for warm-up; common practice is 5 to 10 %."""


class Scheduler(StrEnum):
    """timm's schedulers, stretched over the whole run after a warm-up.

    `cosine` and `tanh` fall to zero along those curves, `poly` in a straight line. `step` drops to
    a tenth after each third of the run, `multistep` after 60 and 85 % of it. `none` keeps the rates
    constant, without warm-up.
    """

    COSINE = "cosine"
    TANH = "tanh"
    POLY = "poly"
    STEP = "step"
    MULTISTEP = "multistep"
    NONE = "none"


def create_schedule(optimizer: Optimizer, scheduler: Scheduler, *, steps: int) -> Schedule:
    """Create the schedule of a run of `steps` steps and apply the rates of the first one."""
    from timm.scheduler import create_scheduler_v2

    warmup = int(WARMUP_FRACTION * steps)
    # timm's floors (`warmup_lr`, `min_lr`) are absolute and the same for every group: only zero
    # keeps the ratios between groups. timm's epochs are our steps. The warm-up rises from zero, so
    # it is counted from 1: no step is taken at a rate of zero.
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
        decay_rate=1.0 if scheduler is Scheduler.POLY else 0.1,  # for poly it is the exponent
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    return Schedule(timms, first)


class Schedule:
    """Sets the learning rates for each step.

    Attributes:
        done: Number of steps taken.
    """

    def __init__(self, timms: Any, first: int) -> None:
        self._timms, self._first = timms, first
        self.go_to(0)

    def go_to(self, done: int) -> None:
        """Set the rates for the step that follows `done` steps."""
        self.done = done
        if self._timms is not None:
            self._timms.step_update(done + self._first)

    def step(self) -> None:
        """Set the rates for the next step."""
        self.go_to(self.done + 1)
