"""The runs of a comparison: ordinary runs of `finetune` that are begun, paused and resumed."""

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
from transferkit.reporting import EpochRow, LeftOut, Plan, Progress, Reporter
from transferkit.run.folder import METRICS, MODEL, OPTIONS, SPLIT
from transferkit.run.record import read_history, read_run


class RunState(StrEnum):
    """How far a run has come."""

    WAITING = "waiting"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(eq=False)
class CandidateRun:
    """A run of a candidate with one seed.

    Attributes:
        candidate: What is run.
        seed: Of its head and of the order of the pictures.
        folder: Where.
        estimate: Seconds that it may take, from a few timed batches; 0 where not known.
        state: How far it has come.
        reason: Why it stopped, failed or did not begin.
        metrics: The content of its metrics.json; empty before its end.
        history: Its epochs so far.
        correct: (N,) whether it was right about each validation image; None before its end.
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
        """What messages call it."""
        return f"{self.candidate.name}, seed {self.seed}"

    @property
    def is_open(self) -> bool:
        """Whether it can still be carried out."""
        return self.state in (RunState.WAITING, RunState.STOPPED)

    @property
    def seconds(self) -> float:
        """Wall time that it took so far."""
        return float(self.metrics.get("seconds", sum(row.seconds for row in self.history)))

    @property
    def accuracy(self) -> float | None:
        """Of its best epoch so far, on the validation images."""
        if self.metrics:
            return float(self.metrics["val"]["accuracy"])
        return max((row.val_accuracy for row in self.history), default=None)


class _RunReporter:
    """Passes on what a run says, but for what is the same in every run or concerns it alone."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def notice(self, message: str) -> None:
        """Pass it on."""
        self._reporter.notice(message)

    def left_out(self, left_out: Sequence[LeftOut]) -> None:
        """Say nothing: it is the same in every run."""

    def plan(self, plan: Plan) -> None:
        """Say nothing: there are many runs."""

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Pass it on."""
        self._reporter.epoch(row, epochs, best)

    def resumable(self, command: str) -> None:
        """Say nothing: the whole comparison is resumed, not one of its runs."""

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Progress]:
        """Pass it on."""
        with self._reporter.progress(description, total) as progress:
            yield progress


@dataclass(frozen=True, eq=False)
class Runner:
    """What carries the runs of a comparison out.

    Attributes:
        options: Of the comparison.
        folder: Of the comparison.
        dataset: Its images, divided as in every run.
        reporter: Told of everything.
        deadline: `time.monotonic()` at which running ones stop.
    """

    options: CompareOptions
    folder: Path
    dataset: Dataset
    reporter: Reporter
    deadline: float

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self.deadline - time.monotonic()

    def run_of(self, candidate: Candidate, seed: int) -> CandidateRun:
        """A run, of a comparison that is resumed as its files tell of it."""
        run = CandidateRun(
            candidate, seed, self.folder / RUNS / f"{candidate.folder_name}-seed{seed}"
        )
        if not self.options.resume or run.folder.name in failed_before(self.folder):
            return run
        run.history = _epochs_of(run)
        if _can_resume(run):
            run.state, run.reason = RunState.STOPPED, "it was stopped"
        self._read_end(run)
        return run

    def settle(self, runs: Sequence[CandidateRun], split: Path | None) -> None:
        """Find out, before any has begun, that each can be carried out and about how long it takes.

        Args:
            runs: Those that are to be carried out; changed in place.
            split: What divides the images.

        Raises:
            TransferKitError: When one cannot.
        """
        seconds: dict[Candidate, float] = {}
        for run in runs:
            if run.candidate not in seconds:
                options = self.options.run_options(
                    run.candidate, run.seed, split=split, dry_run=True
                )
                told = finetune(options).plan.seconds
                seconds[run.candidate] = told[0][1] if told else 0.0
            run.estimate = seconds[run.candidate]
        if any(not run.candidate.is_trained for run in runs):
            # What the first fit would import by itself, seconds that are none of its own.
            import_module("transferkit.classifiers.storage")

    def carry_out(self, run: CandidateRun, until: int | None = None) -> None:
        """Begin a run or go on with it, to its end or to the end of epoch `until`.

        What is wrong with this candidate alone is noted in the run.

        Raises:
            OutputError: When nothing can be written.
        """
        run.reason = ""
        try:
            result = finetune(
                self._options_now(run),
                _RunReporter(self.reporter),
                should_stop=lambda row: self._should_stop(run, row, until),
            )
            if result.metrics:
                self._read_end(run)
            else:
                run.state = RunState.STOPPED
        except OutputError:
            raise  # the others could not write either
        except (TransferKitError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            run.state = RunState.FAILED
            run.reason = " ".join(str(error).split()) or "not enough memory"
        if run.state is not RunState.FINISHED:
            run.history = _epochs_of(run)

    def _should_stop(self, run: CandidateRun, row: EpochRow, until: int | None) -> bool:
        """Return whether a run pauses after an epoch; the reason is then noted in it."""
        if self.seconds_left <= 0:
            run.reason = "the budget was spent"
        elif until is not None and row.epoch >= until:
            run.reason = f"paused after epoch {row.epoch}"
        return bool(run.reason)

    def _options_now(self, run: CandidateRun) -> FinetuneOptions:
        if run.state is RunState.STOPPED and _can_resume(run):
            shared = set(option_names(self.options)) & set(option_names(FinetuneOptions))
            free = shared & set(option_names(FinetuneOptions, on_resume=OnResume.FREE))
            now = {name: getattr(self.options, name) for name in free}
            return FinetuneOptions(self.options.data, run.folder, resume=True, report=False, **now)
        # What a killed process left there, or an attempt that failed.
        shutil.rmtree(run.folder, ignore_errors=True)
        split = None if self.options.val else self.folder / SPLIT
        return self.options.run_options(run.candidate, run.seed, split=split, output=run.folder)

    def _read_end(self, run: CandidateRun) -> None:
        """What a run left that came to its end."""
        try:
            record = read_run(run.folder)
        except BundleError:
            return  # it did not come to its end, or a file of it was lost
        said = record.predictions
        if list(said.paths) != list(self.dataset.paths("val")):
            return
        run.metrics, run.history, run.reason = dict(record.metrics), list(record.history), ""
        run.correct = said.probabilities.argmax(axis=1) == said.labels
        run.state = RunState.FINISHED
        run.size = sum(f.stat().st_size for f in (run.folder / MODEL).rglob("*") if f.is_file())


def _can_resume(run: CandidateRun) -> bool:
    begun = all((run.folder / name).is_file() for name in (OPTIONS, SPLIT))
    return run.candidate.is_trained and begun and not (run.folder / METRICS).exists()


def _epochs_of(run: CandidateRun) -> list[EpochRow]:
    try:
        return list(read_history(run.folder))
    except (OSError, ValueError, KeyError):
        return []  # its checkpoint knows them too
