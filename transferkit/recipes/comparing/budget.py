"""The order of a comparison's runs, and which of them stop early.

With a budget this is successive halving (Jamieson and Talwalkar, AISTATS 2016) over epochs: all
candidates train for a few epochs, the better half continues to about twice as many, and so on. A
run resumes exactly where it paused, so all are judged after the same epoch. The pruners of
hyperparameter libraries such as optuna cannot pause a run. With a few candidates, one after the
other, the first would never be stopped, and the order would decide about the rest.
"""

import math
from collections.abc import Sequence

from transferkit.recipes.comparing.candidate_runs import CandidateRun, Runner, RunState

_RUNGS = (4, 2, 1)
"""Candidates are judged after 1/4, 1/2 and all of the epochs; here the divisors."""

NO_TIME = "the budget was spent before it could start"


def carry_out_all(runner: Runner, runs: Sequence[CandidateRun], epochs: int) -> None:
    """Carry out the runs, fast ones first; within a budget if the runner has a deadline.

    Args:
        runner: Carries out each run.
        runs: The runs of all candidates and seeds; changed in place.
        epochs: Epochs of a candidate that is trained.

    Raises:
        OutputError: When the output cannot be written.
    """
    seeds = sorted({run.seed for run in runs})
    for seed in seeds:
        open_now = [run for run in _cheapest_first(runs) if run.seed == seed and run.is_open]
        limited = math.isfinite(runner.deadline)
        if seed == seeds[0] and limited:
            _halve(runner, open_now, epochs)
            continue
        for run in open_now:
            first = next(r for r in runs if r.candidate == run.candidate and r.seed == seeds[0])
            if first is not run and first.state is not RunState.FINISHED:
                run.reason = f"seed {first.seed} did not finish"
            elif not limited or _is_affordable(runner, run, first.seconds):
                _carry_out(runner, run)


def _cheapest_first(runs: Sequence[CandidateRun]) -> list[CandidateRun]:
    # Candidates without epochs have no estimate; they are one pass over the images and a fit.
    return sorted(runs, key=lambda run: (run.candidate.is_trained, run.estimate))


def _carry_out(runner: Runner, run: CandidateRun, until: int | None = None) -> None:
    resumes = f", resumes after epoch {len(run.history)}" if run.history else ""
    runner.reporter.notice(f"{run.name}{resumes}")
    runner.carry_out(run, until)
    if run.state is RunState.FINISHED:
        runner.reporter.notice(f"{run.name}: val accuracy {run.accuracy:.3f}, {run.seconds:.1f} s")
    elif run.state is RunState.FAILED:
        runner.reporter.notice(f"{run.name} failed: {run.reason}")


def _is_affordable(runner: Runner, run: CandidateRun, seconds: float) -> bool:
    """Return whether the rest of the budget suffices for a run; if not, note that as its reason."""
    left = runner.seconds_left
    if left > 0 and seconds <= left:
        return True
    run.reason = (
        NO_TIME
        if left <= 0
        else f"it takes about {seconds:.0f} s, and only {left:.0f} s of the budget were left"
    )
    return False


def _halve(runner: Runner, runs: Sequence[CandidateRun], epochs: int) -> None:
    """Carry out one seed of each candidate; the weaker half of the trained ones stops at a rung."""
    for run in runs:
        if not run.candidate.is_trained and _is_affordable(runner, run, 0.0):
            _carry_out(runner, run)
    alive = [run for run in runs if run.candidate.is_trained]
    for rung in rungs(epochs):
        for run in alive:
            is_due = len(run.history) < rung or rung == epochs
            if is_due and _is_affordable(runner, run, _next_epoch(run, epochs)):
                _carry_out(runner, run, rung)
        alive = [run for run in alive if run.state is RunState.STOPPED and run.history]
        if _seconds_to_finish(alive, epochs) > runner.seconds_left:
            alive = _better_half(alive, rung)


def rungs(epochs: int) -> list[int]:
    """Return the epochs after which candidates are judged.

    >>> rungs(10), rungs(2), rungs(1)
    ([3, 5, 10], [1, 2], [1])
    """
    return sorted({math.ceil(epochs / divisor) for divisor in _RUNGS})


def _next_epoch(run: CandidateRun, epochs: int) -> float:
    """Return the seconds of one more epoch: those of the last one, or else an estimate."""
    return run.history[-1].seconds if run.history else run.estimate / epochs


def _seconds_to_finish(runs: Sequence[CandidateRun], epochs: int) -> float:
    """Return the seconds to the end at the pace of the last epoch; earlier ones may train less."""
    return sum((epochs - len(run.history)) * _next_epoch(run, epochs) for run in runs)


def _better_half(runs: Sequence[CandidateRun], rung: int) -> list[CandidateRun]:
    best_first = sorted(runs, key=lambda run: run.accuracy or 0.0, reverse=True)
    keep = math.ceil(len(runs) / 2)
    for run in best_first[keep:]:
        run.reason = f"it was in the weaker half after epoch {rung}, and time was short"
    return [run for run in runs if run in best_first[:keep]]
