"""What a run reports while it runs: plain data, passed to a `Reporter`.

The library communicates through a `Reporter` and through return values only. The command line
passes a reporter that prints with rich; `SILENT` ignores everything.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from transferkit.places import Place


@dataclass(frozen=True)
class LeftOut:
    """A file or folder in a dataset that is not used.

    Attributes:
        path: Path relative to the dataset's root.
        reason: Reason in a few words.
        unreadable: Whether it is an image that cannot be read, rather than something else.
    """

    path: str
    reason: str
    unreadable: bool = False


@dataclass(frozen=True)
class StageRow:
    """One stage in the plan of a run.

    Attributes:
        name: The stage's name, `head` for the head.
        modules: The module names that make up the stage.
        parameters: Number of its parameters.
        trainable: Number of them that are trained.
        learning_rate: The peak learning rate; None when the stage stays frozen.
        first_epoch: The first epoch in which it is trained; None when it stays frozen.
    """

    name: str
    modules: tuple[str, ...]
    parameters: int
    trainable: int
    learning_rate: float | None
    first_epoch: int | None


@dataclass(frozen=True)
class PhaseRow:
    """Consecutive epochs with the same trainable parameters, in the plan of a run.

    Attributes:
        name: What is trained, in the notation of `--unfreeze`.
        epochs: Numbers of its first and last epoch.
        trainable: Number of parameters that are trained.
    """

    name: str
    epochs: tuple[int, int]
    trainable: int


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first training step.

    Attributes:
        settings: The resolved settings, as (name, value) pairs ready to show.
        classes: Class name -> number of images in (train, val, test).
        left_out: Everything in the dataset that is not used.
        stages: The backbone's stages, stem first, then the head.
        phases: The phases of training, in order.
        seconds: (what, estimated seconds) of this run and of other strategies.
    """

    settings: tuple[tuple[str, str], ...]
    classes: dict[str, tuple[int, int, int]]
    left_out: tuple[LeftOut, ...]
    stages: tuple[StageRow, ...]
    phases: tuple[PhaseRow, ...]
    seconds: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class EpochRow:
    """One finished epoch; the fields are the columns of history.csv.

    Losses are mean cross-entropy in nats (the training loss with label smoothing). Accuracies are
    fractions from 0 to 1. Learning rates are those of the epoch's last step. Seconds are wall time.
    """

    epoch: int
    phase: str
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr_head: float
    lr_backbone: float
    seconds: float


@dataclass(frozen=True)
class StepRow:
    """One finished training step.

    Attributes:
        step: Number of the step in the run, from 1.
        epoch: Number of its epoch, from 1.
        loss: Mean cross-entropy of its batch in nats (with label smoothing).
        learning_rates: Name of every stage that it trained -> its learning rate, stem first.
    """

    step: int
    epoch: int
    loss: float
    learning_rates: Mapping[str, float]


@dataclass(frozen=True)
class RunStart:
    """A run whose folder is written, before it computes anything.

    Attributes:
        folder: The run's folder.
        options: Every option with its resolved value, as a JSON value.
        plan: The final plan.
        is_resumed: Whether the run was stopped before, and is resumed.
        steps_before: Number of training steps that a resumed run took before, as its checkpoint
            says; 0 for a new run.
    """

    folder: Place
    options: Mapping[str, Any]
    plan: Plan
    is_resumed: bool
    steps_before: int = 0


class Outcome(StrEnum):
    """How a run ended: with its results, interrupted or paused, or by an error."""

    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class RunEnd:
    """The end of a run.

    Attributes:
        outcome: How it ended.
        metrics: The content of metrics.json; empty unless it finished.
        model: Its model's folder; None unless it finished.
        page: Its report page; None where there is none.
    """

    outcome: Outcome
    metrics: Mapping[str, Any]
    model: Place | None = None
    page: Place | None = None


class Progress(Protocol):
    """A progress count."""

    def advance(self, count: int, detail: str = "") -> None:
        """Add `count` finished images and show `detail` beside the rate."""


class Reporter(Protocol):
    """Receives what a run reports. Every call returns at once."""

    @property
    def follows_steps(self) -> bool:
        """Whether `steps` is called; without it, no step is read from the device for it."""

    def notice(self, message: str) -> None:
        """Receive a sentence that the user should read."""

    def left_out(self, left_out: Sequence[LeftOut]) -> None:
        """Receive everything in the dataset that is not used."""

    def plan(self, plan: Plan) -> None:
        """Receive the plan, once, before training."""

    def began(self, start: RunStart) -> None:
        """Receive the beginning of a run; `ended` follows, however the run ends."""

    def steps(self, rows: Sequence[StepRow]) -> None:
        """Receive the steps that were taken since the last call, and before an epoch's end."""

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Receive a finished epoch of `epochs`; `best` if it is the best so far."""

    def resumable(self, command: str) -> None:
        """Receive the command that resumes the run, which is being interrupted."""

    def ended(self, end: RunEnd) -> None:
        """Receive the end of a run that began."""

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Progress]:
        """Open a count of `total` images, closed at the end of the `with` block."""
        ...


class _SilentProgress:
    def advance(self, count: int, detail: str = "") -> None:
        """Do nothing."""


class SilentReporter:
    """A reporter that ignores everything."""

    follows_steps: bool = False

    def notice(self, message: str) -> None:
        """Do nothing."""

    def left_out(self, left_out: Sequence[LeftOut]) -> None:
        """Do nothing."""

    def plan(self, plan: Plan) -> None:
        """Do nothing."""

    def began(self, start: RunStart) -> None:
        """Do nothing."""

    def steps(self, rows: Sequence[StepRow]) -> None:
        """Do nothing."""

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Do nothing."""

    def resumable(self, command: str) -> None:
        """Do nothing."""

    def ended(self, end: RunEnd) -> None:
        """Do nothing."""

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Progress]:
        """Yield a count that shows nothing."""
        yield _SilentProgress()


SILENT = SilentReporter()


def silent(*, follows_steps: bool) -> SilentReporter:
    """Return a reporter that ignores everything, with or without reading the steps for it."""
    reporter = SilentReporter()
    reporter.follows_steps = follows_steps
    return reporter
