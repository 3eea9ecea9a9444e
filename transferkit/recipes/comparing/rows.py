"""What the runs of a comparison say: a row a candidate, the best of them, a sentence of advice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transferkit.intervals import Estimate, accuracy, difference
from transferkit.options.compare import Candidate
from transferkit.recipes.comparing.runs import CandidateRun, RunState
from transferkit.reporting import LeftOut
from transferkit.run.stopwatch import FROZEN


@dataclass(frozen=True)
class CurvePoint:
    """Where a candidate was after an epoch, or at its end.

    Attributes:
        epoch: The epoch; 0 for what has none.
        seconds: Wall time of a run until then, mean over seeds.
        accuracy: Validation accuracy, mean over seeds.
    """

    epoch: int
    seconds: float
    accuracy: float


@dataclass(frozen=True)
class ComparisonRow:
    """A candidate and what is known of it.

    Attributes:
        candidate: What it is.
        by_seed: The accuracy of each seed that came to its end, in their order.
        accuracy: Their mean with its interval; None where none came to its end.
        difference: To the best, negative where worse; None for the best itself and where there is
            no accuracy.
        seconds: Wall time of a run, mean over seeds, the pass over frozen layers included that
            they share; None where none came to its end.
        spent: Wall time of all its runs as it was.
        trainable_parameters: Numbers that receive updates, 0 for a classifier on features.
        total_parameters: Numbers of the network.
        size: Bytes of the model.
        note: What did not come to its end, and why; empty where all did.
        failed: Whether one of its runs failed.
        epochs: How many epochs its furthest run has done, 0 for what has none.
        so_far: The best accuracy of what did not come to its end; None where there is none.
        curve: Its way, a point an epoch.
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
        """Whether no other has a higher accuracy."""
        return self.accuracy is not None and self.difference is None

    @property
    def equals_best(self) -> bool:
        """Whether it is the best, or cannot be told apart from it: the interval holds 0."""
        if self.difference is None:
            return self.is_best
        return self.difference.low <= 0 <= self.difference.high


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        folder: Where its files and runs are.
        rows: A row a candidate, the best first.
        advice: One sentence.
        images: How many are for (training, validation).
        baseline: The accuracy of always answering the most frequent class.
        left_out: What the dataset holds and no run used.
        go_on: How what did not come to its end can do so; empty where all did.
    """

    folder: Path
    rows: tuple[ComparisonRow, ...]
    advice: str
    images: tuple[int, int]
    baseline: float
    left_out: tuple[LeftOut, ...]
    go_on: str

    @property
    def failed(self) -> bool:
        """Whether a candidate failed."""
        return any(row.failed for row in self.rows)


def comparison_rows(runs: Sequence[CandidateRun]) -> list[ComparisonRow]:
    """A row a candidate, the best first, then those that did not come to their end."""
    of_candidate: dict[Candidate, list[CandidateRun]] = {}
    for run in runs:
        of_candidate.setdefault(run.candidate, []).append(run)
    tables = {c: _correct(its) for c, its in of_candidate.items()}
    ranked = {c: table for c, table in tables.items() if table is not None}
    # Of equals the quicker one is the best.
    seconds = {c: _seconds(of_candidate[c], _frozen(c, runs)) for c in of_candidate}
    best = min(ranked, key=lambda c: (-ranked[c].mean(), seconds[c]), default=None)
    rows = [
        _row(candidate, its, tables[candidate], ranked.get(best) if best else None,
             is_best=candidate == best, seconds=seconds[candidate])
        for candidate, its in of_candidate.items()
    ]  # fmt: skip
    return sorted(rows, key=_place)


def _place(row: ComparisonRow) -> tuple[bool, bool, float, float]:
    shown = row.accuracy.value if row.accuracy else row.so_far or 0.0
    return row.accuracy is None, not row.is_best, -shown, row.seconds or 0.0


def _correct(runs: Sequence[CandidateRun]) -> NDArray[np.bool_] | None:
    """(S, N) of the runs that came to their end."""
    tables = [run.correct for run in runs if run.correct is not None]
    return np.stack(tables) if tables else None


def _row(
    candidate: Candidate,
    runs: Sequence[CandidateRun],
    correct: NDArray[np.bool_] | None,
    best: NDArray[np.bool_] | None,
    *,
    is_best: bool,
    seconds: float,
) -> ComparisonRow:
    finished = [run for run in runs if run.state is RunState.FINISHED]
    first = finished[0] if finished else None
    compared = correct is not None and best is not None and not is_best
    return ComparisonRow(
        candidate=candidate,
        by_seed=tuple(run.accuracy or 0.0 for run in finished),
        accuracy=None if correct is None else accuracy(correct),
        difference=difference(correct, best) if compared else None,  # type: ignore[arg-type]
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


def _frozen(candidate: Candidate, runs: Sequence[CandidateRun]) -> float:
    """Seconds of the pass over frozen layers: of the run that computed what others looked up."""
    sharing = [
        run
        for run in runs
        if run.candidate == candidate
        or (not run.candidate.is_trained and not candidate.is_trained
            and run.candidate.network == candidate.network)
    ]  # fmt: skip
    return max((_part(run, FROZEN) for run in sharing), default=0.0)


def _part(run: CandidateRun, name: str) -> float:
    return float(run.metrics.get("time", {}).get(name, 0.0))


def _seconds(runs: Sequence[CandidateRun], frozen: float) -> float:
    """Mean wall time of the finished runs, each with the pass that it would need by itself."""
    finished = [run for run in runs if run.state is RunState.FINISHED]
    if not finished:
        return 0.0
    return float(np.mean([run.seconds - _part(run, FROZEN) + frozen for run in finished]))


def _note(runs: Sequence[CandidateRun]) -> str:
    """What did not come to its end; of several the first reason, of which the rest follow."""
    open_ones = [run for run in runs if run.state is not RunState.FINISHED]
    if not open_ones:
        return ""
    first = open_ones[0]
    what = {RunState.WAITING: "did not begin", RunState.FAILED: "failed"}.get(
        first.state, f"stopped after epoch {len(first.history)}"
    )
    others = len(open_ones) - 1
    more = (
        ""
        if not others
        else (
            "; 1 other seed did not come to its end"
            if others == 1
            else f"; {others} other seeds did not come to their end"
        )
    )
    return f"seed {first.seed} {what}: {first.reason or 'not asked for yet'}{more}"


def _curve(
    runs: Sequence[CandidateRun], seconds: float, is_finished: bool
) -> tuple[CurvePoint, ...]:
    """Mean over seeds by epoch; its last second is that of the table, where there is one."""
    if not runs:
        return ()
    if not runs[0].candidate.is_trained:
        return (CurvePoint(0, seconds, float(np.mean([run.accuracy for run in runs]))),)
    epochs = max(len(run.history) for run in runs)
    took = [float(np.mean([r.history[i].seconds for r in runs if len(r.history) > i]))
            for i in range(epochs)]  # fmt: skip
    # What a run does before its first epoch: weights, a plan, frozen layers of other seeds.
    before = max(seconds - sum(took), 0.0) if is_finished else 0.0
    return tuple(
        CurvePoint(
            i + 1,
            before + sum(took[: i + 1]),
            float(np.mean([r.history[i].val_accuracy for r in runs if len(r.history) > i])),
        )
        for i in range(epochs)
    )
