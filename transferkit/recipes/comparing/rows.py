"""The result of a comparison: one row per candidate, from its runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transferkit.intervals import Estimate, accuracy, difference
from transferkit.options.compare import Candidate
from transferkit.recipes.comparing.candidate_runs import CandidateRun, RunState
from transferkit.recipes.comparing.comparison_folder import PAGE
from transferkit.report.embedding import embedded_page
from transferkit.reporter import LeftOut
from transferkit.run.stopwatch import FROZEN


@dataclass(frozen=True)
class CurvePoint:
    """A candidate's progress after an epoch, or at its end.

    Attributes:
        epoch: The epoch; 0 for a candidate without epochs.
        seconds: Wall time of a run until then, mean over seeds.
        accuracy: Validation accuracy, mean over seeds.
    """

    epoch: int
    seconds: float
    accuracy: float


@dataclass(frozen=True)
class ComparisonRow:
    """A candidate and its figures.

    Attributes:
        candidate: The strategy, backbone and weights.
        by_seed: Accuracy of each finished seed, in the order of the seeds.
        accuracy: Their mean with its interval; None if no seed finished.
        difference: Accuracy minus that of the best; None for the best itself and without accuracy.
        seconds: Wall time of a run, mean over seeds, including the pass over frozen layers that the
            runs share; None if no seed finished.
        spent: Wall time that all its runs took in fact.
        trainable_parameters: Elements that receive updates; 0 for a classifier on features.
        total_parameters: Elements of the network's parameters.
        size: Bytes of the model.
        note: Which seeds did not finish, and why; empty if all did.
        failed: Whether one of its runs failed.
        epochs: Epochs that its furthest run has done; 0 for a candidate without epochs.
        so_far: Best accuracy of the unfinished runs; None if any run finished.
        curve: One point per epoch.
    """

    candidate: Candidate
    by_seed: tuple[float, ...]
    accuracy: Estimate | None
    difference: Estimate | None
    seconds: float | None
    spent: float
    trainable_parameters: int | None
    total_parameters: int | None
    size: int | None
    note: str
    failed: bool
    epochs: int
    so_far: float | None
    curve: tuple[CurvePoint, ...]

    @property
    def is_best(self) -> bool:
        """Whether this candidate is the best."""
        return self.accuracy is not None and self.difference is None

    @property
    def equals_best(self) -> bool:
        """Whether it is the best or cannot be told apart from it: the interval contains 0."""
        if self.difference is None:
            return self.is_best
        return self.difference.low <= 0 <= self.difference.high


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        folder: Folder of its files and runs.
        rows: One row per candidate, the best first.
        advice: One sentence.
        images: Numbers of (training, validation) images.
        baseline: Accuracy of always predicting the most frequent class.
        left_out: Files of the dataset that no run used, with their reasons.
        resume_hint: The command that resumes unfinished runs; empty if all finished.
    """

    folder: Path
    rows: tuple[ComparisonRow, ...]
    advice: str
    images: tuple[int, int]
    baseline: float
    left_out: tuple[LeftOut, ...]
    resume_hint: str

    def _repr_html_(self) -> str:
        """Return the comparison's page, as notebooks show it."""
        return embedded_page(self.folder / PAGE)

    @property
    def failed(self) -> bool:
        """Whether a candidate failed."""
        return any(row.failed for row in self.rows)


def comparison_rows(runs: Sequence[CandidateRun]) -> list[ComparisonRow]:
    """Return one row per candidate, the best first, then those that did not finish."""
    runs_of: dict[Candidate, list[CandidateRun]] = {}
    for run in runs:
        runs_of.setdefault(run.candidate, []).append(run)
    correct = {c: _correct(candidate_runs) for c, candidate_runs in runs_of.items()}
    ranked = {c: table for c, table in correct.items() if table is not None}
    seconds = {c: _seconds(runs_of[c], _frozen_seconds(c, runs)) for c in runs_of}
    # Ties go to the faster one.
    best = min(ranked, key=lambda c: (-ranked[c].mean(), seconds[c]), default=None)
    best_correct = ranked[best] if best else None
    rows = [
        _row(runs_of[c], correct[c], None if c == best else best_correct, seconds[c])
        for c in runs_of
    ]
    return sorted(rows, key=_rank)


def _rank(row: ComparisonRow) -> tuple[bool, bool, float, float]:
    shown = row.accuracy.value if row.accuracy else row.so_far or 0.0
    return row.accuracy is None, not row.is_best, -shown, row.seconds or 0.0


def _correct(runs: Sequence[CandidateRun]) -> NDArray[np.bool_] | None:
    """Return which images each finished run was right about, (S, N)."""
    tables = [run.correct for run in runs if run.correct is not None]
    return np.stack(tables) if tables else None


def _row(
    runs: Sequence[CandidateRun],
    correct: NDArray[np.bool_] | None,
    best: NDArray[np.bool_] | None,
    seconds: float,
) -> ComparisonRow:
    """Return the row of one candidate; `best` is None for the best itself."""
    finished = [run for run in runs if run.state is RunState.FINISHED]
    first = finished[0] if finished else None
    return ComparisonRow(
        candidate=runs[0].candidate,
        by_seed=tuple(run.accuracy or 0.0 for run in finished),
        accuracy=None if correct is None else accuracy(correct),
        difference=None if correct is None or best is None else difference(correct, best),
        seconds=seconds if finished else None,
        spent=sum(run.seconds for run in runs),
        trainable_parameters=first.metrics["trainable_parameters"] if first else None,
        total_parameters=first.metrics["total_parameters"] if first else None,
        size=first.size if first else None,
        note=_note(runs),
        failed=any(run.state is RunState.FAILED for run in runs),
        epochs=max(len(run.history) for run in runs),
        so_far=None if finished else max((run.accuracy or 0.0 for run in runs), default=None),
        curve=_curve(finished or [run for run in runs if run.history], seconds, finished != []),
    )


def _frozen_seconds(candidate: Candidate, runs: Sequence[CandidateRun]) -> float:
    """Return the seconds of the pass over frozen layers, from the run that filled the cache."""
    sharing = [
        run
        for run in runs
        if run.candidate == candidate
        or (not run.candidate.is_trained and not candidate.is_trained
            and run.candidate.network == candidate.network)
    ]  # fmt: skip
    return max((_part_seconds(run, FROZEN) for run in sharing), default=0.0)


def _part_seconds(run: CandidateRun, name: str) -> float:
    return float(run.metrics.get("time", {}).get(name, 0.0))


def _seconds(runs: Sequence[CandidateRun], frozen: float) -> float:
    """Return the mean wall time of the finished runs, each with the pass it would need alone."""
    finished = [run for run in runs if run.state is RunState.FINISHED]
    if not finished:
        return 0.0
    return float(np.mean([run.seconds - _part_seconds(run, FROZEN) + frozen for run in finished]))


def _note(runs: Sequence[CandidateRun]) -> str:
    """Return which seeds did not finish, with the reason of the first; the rest follow from it."""
    open_ones = [run for run in runs if run.state is not RunState.FINISHED]
    if not open_ones:
        return ""
    first = open_ones[0]
    what = {RunState.WAITING: "did not start", RunState.FAILED: "failed"}.get(
        first.state, f"stopped after epoch {len(first.history)}"
    )
    others = len(open_ones) - 1
    more = f"; {others} other seed{'s' if others > 1 else ''} did not finish" if others else ""
    return f"seed {first.seed} {what}: {first.reason or 'its turn had not come'}{more}"


def _curve(
    runs: Sequence[CandidateRun], seconds: float, is_finished: bool
) -> tuple[CurvePoint, ...]:
    """Return the mean over seeds by epoch; a finished curve ends at the seconds of its row."""
    if not runs:
        return ()
    if not runs[0].candidate.is_trained:
        return (CurvePoint(0, seconds, float(np.mean([run.accuracy for run in runs]))),)
    epochs = max(len(run.history) for run in runs)
    epoch_seconds = [float(np.mean([r.history[i].seconds for r in runs if len(r.history) > i]))
            for i in range(epochs)]  # fmt: skip
    # Before the first epoch: weights, the plan, frozen layers that other seeds computed.
    before = max(seconds - sum(epoch_seconds), 0.0) if is_finished else 0.0
    return tuple(
        CurvePoint(
            i + 1,
            before + sum(epoch_seconds[: i + 1]),
            float(np.mean([r.history[i].val_accuracy for r in runs if len(r.history) > i])),
        )
        for i in range(epochs)
    )
