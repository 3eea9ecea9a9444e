"""The runs of a comparison: ordinary runs of `finetune`, started, paused and resumed."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.data.dataset import Dataset
from transferkit.errors import BundleError, OutputError, TransferKitError
from transferkit.memory import is_out_of_memory
from transferkit.options.compare import Candidate, CompareOptions
from transferkit.options.declaration import OnResume, option_names
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes.comparing.comparison_folder import RUNS, failed_before
from transferkit.recipes.finetune import finetune
from transferkit.reporter import (
    EpochRow,
    LeftOut,
    Plan,
    Progress,
    Reporter,
    RunEnd,
    RunStart,
    StepRow,
)
from transferkit.run.folder import METRICS, MODEL, OPTIONS, SPLIT
from transferkit.run.record import read_history, read_run


class RunState(StrEnum):
    """How far a run has got."""

    WAITING = "waiting"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(eq=False)
class CandidateRun:
    """A run of a candidate with one seed.

    Attributes:
        candidate: The strategy, backbone and weights.
        seed: Seed of the head and of the order of the images.
        folder: The run's folder.
        estimate: Estimated seconds, from a few timed batches; 0 if unknown.
        state: How far the run has got.
        reason: Why it stopped, failed or did not start.
        metrics: The content of its metrics.json; empty until it has finished.
        history: Its epochs so far.
        correct: (N,) whether it was right about each validation image; None until it has finished.
        size: Bytes of its model.
    """

    candidate: Candidate
    seed: int
    folder: Path
    estimate: float = 0.0
    state: RunState = RunState.WAITING
    reason: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[EpochRow] = field(default_factory=list)
    correct: NDArray[np.bool_] | None = None
    size: int = 0

    @property
    def name(self) -> str:
        """Name of the run in messages."""
        return f"{self.candidate.name}, seed {self.seed}"

    @property
    def is_open(self) -> bool:
        """Whether the run can still be started or resumed."""
        return self.state in (RunState.WAITING, RunState.STOPPED)

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return float(self.metrics.get("seconds", sum(row.seconds for row in self.history)))

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy of the best epoch so far; None before the first."""
        if self.metrics:
            return float(self.metrics["val"]["accuracy"])
        return max((row.val_accuracy for row in self.history), default=None)


class _RunReporter:
    """A reporter for one run; it drops what is the same in every run or concerns one run alone."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.follows_steps = reporter.follows_steps

    def notice(self, message: str) -> None:
        """Forward the notice."""
        self._reporter.notice(message)

    def left_out(self, left_out: Sequence[LeftOut]) -> None:
        """Do nothing: these files are the same in every run."""

    def plan(self, plan: Plan) -> None:
        """Do nothing: there would be one plan per run."""

    def began(self, start: RunStart) -> None:
        """Forward the beginning."""
        self._reporter.began(start)

    def steps(self, rows: Sequence[StepRow]) -> None:
        """Forward the steps."""
        self._reporter.steps(rows)

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Forward the epoch."""
        self._reporter.epoch(row, epochs, best)

    def resumable(self, command: str) -> None:
        """Do nothing: the comparison as a whole is resumed, not one of its runs."""

    def ended(self, end: RunEnd) -> None:
        """Forward the end."""
        self._reporter.ended(end)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Progress]:
        """Forward the progress."""
        with self._reporter.progress(description, total) as progress:
            yield progress


@dataclass(frozen=True, eq=False)
class Runner:
    """Carries out the runs of a comparison.

    Attributes:
        options: Options of the comparison.
        folder: Folder of the comparison.
        dataset: The images, split as in every run.
        reporter: Receives notices, epochs and progress.
        deadline: `time.monotonic()` at which runs in progress stop.
    """

    options: CompareOptions
    folder: Path
    dataset: Dataset
    reporter: Reporter
    deadline: float

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def candidate_run(self, candidate: Candidate, seed: int) -> CandidateRun:
        """Return a run; in a resumed comparison, in the state that its files show."""
        run = CandidateRun(
            candidate, seed, self.folder / RUNS / f"{candidate.folder_name}-seed{seed}"
        )
        if not self.options.resume or run.folder.name in failed_before(self.folder):
            return run
        run.history = _epochs_of(run)
        if _can_resume(run):
            run.state, run.reason = RunState.STOPPED, "it was stopped"
        self._read_result(run)
        return run

    def dry_run(self, runs: Sequence[CandidateRun], split: Path | None) -> None:
        """Check that each run can be carried out, and estimate how long it takes.

        Args:
            runs: The runs to check; their estimates are set in place.
            split: The split file, if there is one.

        Raises:
            TransferKitError: When a run cannot be carried out.
        """
        seconds: dict[Candidate, float] = {}
        for run in runs:
            if run.candidate not in seconds:
                options = self.options.run_options(
                    run.candidate, run.seed, split=split, dry_run=True
                )
                estimates = finetune(options).plan.seconds
                seconds[run.candidate] = estimates[0][1] if estimates else 0.0
            run.estimate = seconds[run.candidate]
        if any(not run.candidate.is_trained for run in runs):
            # Otherwise the first fit would import it, and the seconds would count as its own.
            import_module("transferkit.classifiers.storage")

    def carry_out(self, run: CandidateRun, until: int | None = None) -> None:
        """Start or resume a run, up to its end or to the end of epoch `until`.

        An error of this candidate alone is noted in the run.

        Raises:
            OutputError: When the output cannot be written.
        """
        run.reason = ""
        try:
            result = finetune(
                self._current_options(run),
                _RunReporter(self.reporter),
                should_stop=lambda row: self._should_stop(run, row, until),
                comparison=self.folder,
            )
            if result.metrics:
                self._read_result(run)
            else:
                run.state = RunState.STOPPED
        except OutputError:
            raise  # the other runs could not write either
        except (TransferKitError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            run.state = RunState.FAILED
            run.reason = " ".join(str(error).split()) or "not enough memory"
        if run.state is not RunState.FINISHED:
            run.history = _epochs_of(run)

    def _should_stop(self, run: CandidateRun, row: EpochRow, until: int | None) -> bool:
        """Return whether a run pauses after this epoch; if so, note the reason in the run."""
        if self.seconds_left <= 0:
            run.reason = "the budget was spent"
        elif until is not None and row.epoch >= until:
            run.reason = f"paused after epoch {row.epoch}"
        return bool(run.reason)

    def _current_options(self, run: CandidateRun) -> FinetuneOptions:
        if run.state is RunState.STOPPED and _can_resume(run):
            shared = set(option_names(self.options)) & set(option_names(FinetuneOptions))
            free = shared & set(option_names(FinetuneOptions, on_resume=OnResume.FREE))
            current = {name: getattr(self.options, name) for name in free}
            return FinetuneOptions(
                self.options.data, run.folder, resume=True, report=False, **current
            )
        # The remains of a killed process or of a failed attempt.
        shutil.rmtree(run.folder, ignore_errors=True)
        split = None if self.options.val else self.folder / SPLIT
        return self.options.run_options(run.candidate, run.seed, split=split, output=run.folder)

    def _read_result(self, run: CandidateRun) -> None:
        """Read the results of a run, if it has finished."""
        try:
            record = read_run(run.folder)
        except BundleError:
            return  # it did not finish, or one of its files was lost
        predictions = record.predictions
        if list(predictions.paths) != list(self.dataset.paths("val")):
            return
        run.metrics, run.history, run.reason = dict(record.metrics), list(record.history), ""
        run.correct = predictions.probabilities.argmax(axis=1) == predictions.labels
        run.state = RunState.FINISHED
        run.size = sum(f.stat().st_size for f in (run.folder / MODEL).rglob("*") if f.is_file())


def _can_resume(run: CandidateRun) -> bool:
    has_started = all((run.folder / name).is_file() for name in (OPTIONS, SPLIT))
    return run.candidate.is_trained and has_started and not (run.folder / METRICS).exists()


def _epochs_of(run: CandidateRun) -> list[EpochRow]:
    try:
        return list(read_history(run.folder))
    except (OSError, ValueError, KeyError):
        return []  # its checkpoint contains them too
