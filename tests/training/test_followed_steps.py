"""The figures of steps, kept until the loop reads numbers."""

from types import SimpleNamespace

import torch

from transferkit.reporter import SilentReporter, StepRow, silent
from transferkit.training.followed_steps import FollowedSteps


class Steps(SilentReporter):
    follows_steps = True

    def __init__(self):
        self.calls = []

    def steps(self, rows):
        self.calls.append(rows)


def setup_at(rate):
    """A stand-in for a setup: one trained stage and one that is frozen, before the first step."""
    trained, frozen = (torch.nn.Parameter(torch.zeros(1), requires_grad=r) for r in (True, False))
    groups = [
        {"params": [frozen], "stage": "stem", "lr": rate},
        {"params": [trained], "stage": "head", "lr": rate},
    ]
    return SimpleNamespace(
        optimizer=SimpleNamespace(param_groups=groups), schedule=SimpleNamespace(done=0)
    )


def test_followed_steps__have_the_rates_that_they_were_taken_with():
    setup, reporter = setup_at(0.5), Steps()
    followed = FollowedSteps(setup, reporter)
    for step in (1, 2):
        followed.begin_step()
        setup.schedule.done = step
        setup.optimizer.param_groups[1]["lr"] = 0.25
        followed.end_step(7, torch.tensor(float(step)))
    followed.report([loss.item() for loss in followed.losses])
    followed.report([])

    assert reporter.calls == [
        [StepRow(1, 7, 1.0, {"head": 0.5}), StepRow(2, 7, 2.0, {"head": 0.25})]
    ]


def test_followed_steps__keep_nothing_for_others():
    followed = FollowedSteps(setup_at(0.5), silent(follows_steps=False))
    followed.begin_step()
    followed.end_step(1, torch.tensor(1.0))

    assert followed.losses == []
