"""Runs that a budget stops early, simulated on a simulated clock."""

import math
from pathlib import Path

import pytest

from transferkit.options.compare import Candidate
from transferkit.recipes.comparing.budget import carry_out_all, rungs
from transferkit.recipes.comparing.candidate_runs import CandidateRun, RunState
from transferkit.reporter import SILENT, EpochRow

EPOCHS = 8


class SimulatedRunner:
    """Runs reach the given accuracies; an epoch takes one second, a classifier two."""

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
                run.state, run.reason = RunState.STOPPED, "asked to stop"
                return
        run.state, run.reason = RunState.FINISHED, ""
        run.metrics = {"val": {"accuracy": accuracy}, "seconds": float(len(run.history) or 2)}


def runs_of(*strategies: str, seeds: int = 1) -> list[CandidateRun]:
    return [
        CandidateRun(Candidate(name, "vgg11", "none"), seed, Path(name), estimate=float(EPOCHS))
        for seed in range(seeds)
        for name in strategies
    ]


def epochs_done(runs):
    return {run.candidate.strategy: len(run.history) for run in runs}


@pytest.mark.parametrize(("epochs", "expected"), [(10, [3, 5, 10]), (2, [1, 2]), (1, [1])])
def test_rungs__halve_down_from_the_last_epoch(epochs, expected):
    assert rungs(epochs) == expected


def test_no_budget__finishes_all_runs_fast_ones_first():
    runner, runs = SimulatedRunner({"full": 0.9, "svm": 0.8}), runs_of("full", "svm", seeds=2)
    carry_out_all(runner, runs, EPOCHS)

    assert runner.order == [
        ("svm", 0, None),
        ("full", 0, None),
        ("svm", 1, None),
        ("full", 1, None),
    ]
    assert all(run.state is RunState.FINISHED for run in runs)


def test_budget__that_suffices_stops_no_run():
    runner = SimulatedRunner({"full": 0.9, "partial": 0.1, "gradual": 0.2}, budget=100)
    runs = runs_of("full", "partial", "gradual")
    carry_out_all(runner, runs, EPOCHS)

    assert all(run.state is RunState.FINISHED for run in runs)


def test_budget__that_is_short_continues_the_better_half_at_every_rung():
    reached = {"partial": 0.5, "partial:last:1": 0.7, "full": 0.9, "gradual": 0.6}
    runner, runs = SimulatedRunner(reached, budget=20), runs_of(*reached)
    carry_out_all(runner, runs, EPOCHS)

    # Two epochs each, then the better two continue to four. Both of them fit in the budget.
    assert epochs_done(runs) == {"partial": 2, "gradual": 2, "partial:last:1": 8, "full": 8}
    reasons = {run.candidate.strategy: run.reason for run in runs}
    assert (
        reasons["partial"]
        == reasons["gradual"]
        == ("it was in the weaker half after epoch 2, and time was short")
    )
    assert runner.clock == 20


def test_budget__stops_the_same_runs_in_any_order():
    reached = {"partial": 0.5, "partial:last:1": 0.7, "full": 0.9, "gradual": 0.6}
    for names in (list(reached), list(reached)[::-1]):
        runs = runs_of(*names)
        carry_out_all(SimulatedRunner(reached, budget=16), runs, EPOCHS)
        assert epochs_done(runs) == {"partial": 2, "gradual": 2, "partial:last:1": 4, "full": 8}


def test_budget__that_is_spent_starts_no_run_and_notes_why():
    reached = {"svm": 0.8, "full": 0.9, "gradual": 0.6}
    runner, runs = SimulatedRunner(reached, budget=3.5), runs_of(*reached)
    carry_out_all(runner, runs, EPOCHS)

    assert epochs_done(runs) == {"svm": 0, "full": 2, "gradual": 0}
    assert [run.state for run in runs] == [RunState.FINISHED, RunState.STOPPED, RunState.WAITING]
    assert runs[2].reason == "the budget was spent before it could start"


def test_budget__repeats_only_finished_candidates_that_fit():
    reached = {"svm": 0.8, "full": 0.9}
    runner, runs = SimulatedRunner(reached, budget=13.0), runs_of("svm", "full", seeds=2)
    carry_out_all(runner, runs, EPOCHS)

    assert [run.state for run in runs] == [*[RunState.FINISHED] * 3, RunState.WAITING]
    assert runs[3].reason == "it takes about 8 s, and only 1 s of the budget were left"


def test_failed_run__is_not_repeated_and_stops_no_other():
    runner = SimulatedRunner({"full": math.nan, "gradual": 0.6})
    runs = runs_of("full", "gradual", seeds=2)
    carry_out_all(runner, runs, EPOCHS)

    states = [run.state for run in runs]
    assert states == [RunState.FAILED, RunState.FINISHED, RunState.WAITING, RunState.FINISHED]
    assert runs[2].reason == "seed 0 did not finish"


def test_resuming__continues_stopped_runs():
    reached = {"full": 0.9, "gradual": 0.6}
    runs = runs_of(*reached)
    carry_out_all(SimulatedRunner(reached, budget=6), runs, EPOCHS)
    assert not all(run.state is RunState.FINISHED for run in runs)
    carry_out_all(SimulatedRunner(reached), runs, EPOCHS)

    assert all(run.state is RunState.FINISHED for run in runs)
