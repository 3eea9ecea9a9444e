"""What a run says while it runs: plain data, handed to whoever shows it.

The library speaks through a `Reporter` and through return values only. The command line brings a
reporter that draws with rich; `SILENT` says nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class LeftOut:
    """Something found in a dataset and not used.

    Attributes:
        path: Relative to the dataset's root.
        reason: Why, in a few words.
        unreadable: Whether it is an image that cannot be read, and not merely something else.
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
        parameters: How many numbers its parameters hold.
        trainable: How many of them receive updates.
        learning_rate: The peak learning rate, or None when the stage stays frozen.
        first_epoch: The epoch from which it is trained, or None when it stays frozen.
    """

    name: str
    modules: tuple[str, ...]
    parameters: int
    trainable: int
    learning_rate: float | None
    first_epoch: int | None


@dataclass(frozen=True)
class PhaseRow:
    """Epochs with the same trainable stages, in the plan of a run.

    Attributes:
        name: What is trained, as `--unfreeze` names it.
        epochs: Number of its first and of its last epoch.
        trainable: How many numbers receive updates.
    """

    name: str
    epochs: tuple[int, int]
    trainable: int


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first training step.

    Attributes:
        settings: What was chosen, as (name, value) pairs ready to show.
        classes: Class name -> images in (train, val, test).
        left_out: Everything found in the dataset and not used.
        stages: The backbone's stages, stem to last, then the head.
        phases: What is trained when, in order.
        seconds: (what, seconds) that this run may take and other strategies may.
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

    Losses are mean cross-entropy in nats (the train loss with label smoothing), accuracies are
    fractions, rates are those of the epoch's last step, seconds are wall time.
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


class Progress(Protocol):
    """A running count."""

    def advance(self, count: int, detail: str = "") -> None:
        """Add `count` finished images and show `detail` beside the rate."""


class Reporter(Protocol):
    """Receives what a run has to say. Every call returns at once."""

    def notice(self, message: str) -> None:
        """Something the user should know, in a sentence."""

    def left_out(self, left_out: Sequence[LeftOut]) -> None:
        """What of a dataset is not used."""

    def plan(self, plan: Plan) -> None:
        """The plan, once, before training."""

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """A finished epoch of `epochs`; `best` when it is the best so far."""

    def resumable(self, command: str) -> None:
        """The run is being interrupted, and `command` resumes it."""

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Progress]:
        """Open a count of `total` images, closed at the end of the `with` block."""
        ...


class _SilentProgress:
    def advance(self, count: int, detail: str = "") -> None:
        """Say nothing."""


class SilentReporter:
    """Says nothing."""

    def notice(self, message: str) -> None:
        """Say nothing."""

    def left_out(self, left_out: Sequence[LeftOut]) -> None:
        """Say nothing."""

    def plan(self, plan: Plan) -> None:
        """Say nothing."""

    def epoch(self, row: EpochRow, epochs: int, best: bool) -> None:
        """Say nothing."""

    def resumable(self, command: str) -> None:
        """Say nothing."""

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Progress]:
        """Yield a count that shows nothing."""
        yield _SilentProgress()


SILENT = SilentReporter()
