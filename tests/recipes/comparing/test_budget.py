"""Which runs stop early: with runs that take made-up time, on a clock of their own."""

import math
from pathlib import Path

import pytest

from transferkit.options.compare import Candidate
from transferkit.recipes.comparing.budget import carry_out_all, rungs
from transferkit.recipes.comparing.runs import CandidateRun, RunState
from transferkit.reporting import SILENT, EpochRow

EPOCHS = 8


class Imagined:
    """Runs whose epochs take a second each and reach what is said; a classifier takes two."""

    def __init__(self, reached: dict[str, float], budget: float = math.inf) -> None:
        self.reporter, self.deadline, self.clock = SILENT, budget, 0.0
        self.reached, self.order = reached, []

    @property
    def seconds_left(self) -> float:
        return self.deadline - self.clock

    def carry_out(self, run: CandidateRun, until: int | None = None) -> None:
        self.order.append((run.candidate.strategy, run.seed, until))
        accuracy = self.reached[run.candidate.strategy]
        if math.isnan(accuracy):
            run.state, run.reason = RunState.FAILED, "the loss became nan"
            return
        if not run.candidate.is_trained:
            self.clock += 2
        while run.candidate.is_trained and len(run.history) < EPOCHS:
            self.clock += 1
            number = len(run.history) + 1
            run.history.append(EpochRow(number, "all", 1, 1, 1, accuracy, 1, 1, seconds=1.0))
            if number < EPOCHS and (number == until or self.seconds_left <= 0):
                run.state, run.reason = RunState.STOPPED, "told to stop"
                return
        run.state, run.reason = RunState.FINISHED, ""
        run.metrics = {"val": {"accuracy": accuracy}, "seconds": float(len(run.history) or 2)}


def runs_of(*strategies: str, seeds: int = 1) -> list[CandidateRun]:
    return [
        CandidateRun(Candidate(name, "nano", "none"), seed, Path(name), estimate=float(EPOCHS))
        for seed in range(seeds)
        for name in strategies
    ]


def epochs_done(runs):
    return {run.candidate.strategy: len(run.history) for run in runs}


@pytest.mark.parametrize(("epochs", "expected"), [(10, [3, 5, 10]), (2, [1, 2]), (1, [1])])
def test_rungs(epochs, expected):
    assert rungs(epochs) == expected


def test_without_a_budget__all_come_to_their_end_the_quick_ones_first():
    runner, runs = Imagined({"full": 0.9, "svm": 0.8}), runs_of("full", "svm", seeds=2)
    carry_out_all(runner, runs, EPOCHS)

    assert runner.order == [
        ("svm", 0, None),
        ("full", 0, None),
        ("svm", 1, None),
        ("full", 1, None),
    ]
    assert all(run.state is RunState.FINISHED for run in runs)


def test_budget__that_suffices_stops_nobody():
    runner = Imagined({"full": 0.9, "partial": 0.1, "gradual": 0.2}, budget=100)
    runs = runs_of("full", "partial", "gradual")
    carry_out_all(runner, runs, EPOCHS)

    assert all(run.state is RunState.FINISHED for run in runs)


def test_budget__that_does_not_leaves_the_better_half_at_every_rung():
    reached = {"partial": 0.5, "partial:last:1": 0.7, "full": 0.9, "gradual": 0.6}
    runner, runs = Imagined(reached, budget=20), runs_of(*reached)
    carry_out_all(runner, runs, EPOCHS)

    # Two epochs each; then the better two go on to four; there is time for both of them.
    assert epochs_done(runs) == {"partial": 2, "gradual": 2, "partial:last:1": 8, "full": 8}
    reasons = {run.candidate.strategy: run.reason for run in runs}
    assert (
        reasons["partial"]
        == reasons["gradual"]
        == ("it was in the weaker half after epoch 2, and time was short")
    )
    assert runner.clock == 20


def test_budget__order_does_not_decide():
    reached = {"partial": 0.5, "partial:last:1": 0.7, "full": 0.9, "gradual": 0.6}
    for names in (list(reached), list(reached)[::-1]):
        runs = runs_of(*names)
        carry_out_all(Imagined(reached, budget=16), runs, EPOCHS)
        assert epochs_done(runs) == {"partial": 2, "gradual": 2, "partial:last:1": 4, "full": 8}


def test_budget__that_is_spent_begins_nothing_more_and_says_so():
    reached = {"svm": 0.8, "full": 0.9, "gradual": 0.6}
    runner, runs = Imagined(reached, budget=3.5), runs_of(*reached)
    carry_out_all(runner, runs, EPOCHS)

    assert epochs_done(runs) == {"svm": 0, "full": 2, "gradual": 0}
    assert [run.state for run in runs] == [RunState.FINISHED, RunState.STOPPED, RunState.WAITING]
    assert runs[2].reason == "the budget was spent before it could begin"


def test_budget__repeats_only_who_came_to_the_end_and_fits():
    reached = {"svm": 0.8, "full": 0.9}
    runner, runs = Imagined(reached, budget=13.0), runs_of("svm", "full", seeds=2)
    carry_out_all(runner, runs, EPOCHS)

    assert [run.state for run in runs] == [*[RunState.FINISHED] * 3, RunState.WAITING]
    assert runs[3].reason == "it takes about 8 s, and 1 s of the budget were left"


def test_failed__is_not_repeated_and_stops_nobody_else():
    runner = Imagined({"full": math.nan, "gradual": 0.6})
    runs = runs_of("full", "gradual", seeds=2)
    carry_out_all(runner, runs, EPOCHS)

    states = [run.state for run in runs]
    assert states == [RunState.FAILED, RunState.FINISHED, RunState.WAITING, RunState.FINISHED]
    assert runs[2].reason == "seed 0 did not come to its end"


def test_resumed__goes_on_with_what_was_stopped():
    reached = {"full": 0.9, "gradual": 0.6}
    runs = runs_of(*reached)
    carry_out_all(Imagined(reached, budget=6), runs, EPOCHS)
    assert not all(run.state is RunState.FINISHED for run in runs)
    carry_out_all(Imagined(reached), runs, EPOCHS)

    assert all(run.state is RunState.FINISHED for run in runs)
