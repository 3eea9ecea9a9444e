"""Schedules scale the learning rates of all groups by the same factor."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from transferkit.training.schedule import Scheduler, create_schedule


def schedule_of(scheduler, steps):
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [
        {"params": [p], "lr": rate} for p, rate in zip(parameters, (1e-6, 1e-4, 1e-3), strict=True)
    ]
    optimizer = torch.optim.AdamW(groups)
    return optimizer, create_schedule(optimizer, scheduler, steps=steps)


@pytest.mark.parametrize("scheduler", list(Scheduler))
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_create_schedule__scales_all_groups_by_one_factor(scheduler, steps):
    optimizer, schedule = schedule_of(scheduler, steps)
    factors = []
    for _ in range(steps):
        low, middle, high = (group["lr"] for group in optimizer.param_groups)
        assert middle / low == pytest.approx(100)
        assert high / low == pytest.approx(1000)
        factors.append(high / 1e-3)
        schedule.step()

    assert min(factors) > 0
    assert max(factors) == pytest.approx(1)


def test_create_schedule__cosine_rises_then_falls_to_zero():
    optimizer, schedule = schedule_of(Scheduler.COSINE, 100)
    factors = []
    for _ in range(100):
        factors.append(optimizer.param_groups[-1]["lr"] / 1e-3)
        schedule.step()

    assert factors[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert factors[10] == pytest.approx(1, abs=1e-3)
    assert factors[55] == pytest.approx(0.5, abs=0.02)
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert 0 < factors[-1] < 0.001


@pytest.mark.parametrize(
    ("scheduler", "at", "factor"),
    [
        (Scheduler.NONE, 99, 1),
        (Scheduler.STEP, 38, 1),
        (Scheduler.STEP, 39, 0.1),
        (Scheduler.STEP, 99, 0.01),
        (Scheduler.MULTISTEP, 62, 1),
        (Scheduler.MULTISTEP, 63, 0.1),
        (Scheduler.MULTISTEP, 99, 0.01),
        (Scheduler.POLY, 55, 0.5),
        (Scheduler.TANH, 99, 0),
    ],
)
def test_create_schedule__others_fall_at_their_steps(scheduler, at, factor):
    optimizer, schedule = schedule_of(scheduler, 100)
    schedule.go_to(at)

    assert optimizer.param_groups[-1]["lr"] / 1e-3 == pytest.approx(factor, abs=0.01)


def test_schedule__resumes_where_it_was():
    walked, one = schedule_of(Scheduler.COSINE, 50)
    jumped, other = schedule_of(Scheduler.COSINE, 50)
    for _ in range(20):
        one.step()
    other.go_to(one.done)

    assert [g["lr"] for g in walked.param_groups] == [g["lr"] for g in jumped.param_groups]
