"""A fine-tuning run in progress, and its result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from transferkit.places import Place
from transferkit.processes import ALONE
from transferkit.report.embedding import embedded_page, summary
from transferkit.run.folder import REPORT_PAGE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from transferkit.compute import ComputeSettings
    from transferkit.data.dataset import Dataset
    from transferkit.models.network import Network
    from transferkit.options.finetune import FinetuneOptions
    from transferkit.processes import Processes
    from transferkit.recipes.finetuning.settings import (
        FeatureSettings,
        RunSettings,
        TrainingSettings,
    )
    from transferkit.reporter import EpochRow, Plan, Reporter
    from transferkit.run.stopwatch import Stopwatch
    from transferkit.training.lr_range_test import RangeTest

S = TypeVar("S", bound="RunSettings", covariant=True)

ShouldStop = Callable[["EpochRow"], bool]
"""Asked after every epoch but the last; True pauses the run there, to be resumed later."""


@dataclass(frozen=True)
class TimeBudget:
    """The time that a run may take.

    Attributes:
        seconds: Wall time from the start of the process to the end of the run.
        reserved: Seconds of it that are kept for what follows the last training step.
        estimate: Seconds that the run is expected to take of it.
        choice: What was chosen for it and why, for the plan.
    """

    seconds: float
    reserved: float
    estimate: float
    choice: str


@dataclass(frozen=True, eq=False)
class FinetuneRun(Generic[S]):
    """Everything that the steps of a run share.

    Attributes:
        options: The options as given.
        dataset: The images, checked and split.
        network: The network, on its device, with the weights that training starts from.
        settings: Everything that the options leave open, resolved.
        folder: The folder to write; None for a dry run.
        reporter: Receives the plan, the epochs, progress and notices.
        stopwatch: Started when the run began.
        should_stop: Asked after every epoch but the last.
        budget: The time that the run may take; None for as long as it takes.
        processes: The processes that train it together; the first one writes.
    """

    options: FinetuneOptions
    dataset: Dataset
    network: Network
    settings: S
    folder: Place | None
    reporter: Reporter
    stopwatch: Stopwatch
    should_stop: ShouldStop
    budget: TimeBudget | None = None
    processes: Processes = ALONE

    @property
    def compute(self) -> ComputeSettings:
        """Device, precision, batch size and threads."""
        return self.settings.compute

    @property
    def output(self) -> Place:
        """The folder to write; a dry run has none."""
        assert self.folder is not None
        return self.folder

    def training_seconds_left(self) -> float:
        """Return how long training may still take; infinite without a budget."""
        if self.budget is None:
            return math.inf
        return self.budget.seconds - self.budget.reserved - self.stopwatch.since_process_began


TrainingRun: TypeAlias = "FinetuneRun[TrainingSettings]"
FeaturesRun: TypeAlias = "FinetuneRun[FeatureSettings]"


@dataclass(frozen=True)
class FinetuneResult:
    """The result of a run.

    Attributes:
        run: The run's folder; None for a dry run.
        plan: The plan made before training.
        metrics: The content of metrics.json; empty for a run that was paused or trained nothing,
            and in all of several processes but the first.
        history: One row per epoch.
        val_paths: Paths of the N validation images, relative to the dataset's folder.
        val_probabilities: (N, C) float32, the model's probabilities for them.
        range_test: The result of `--find-lr` or `--lr auto`.
    """

    run: Place | None
    plan: Plan
    metrics: dict[str, Any]
    history: tuple[EpochRow, ...] = ()
    val_paths: tuple[str, ...] = ()
    val_probabilities: NDArray[np.float32] | None = None
    range_test: RangeTest | None = None

    def _repr_html_(self) -> str:
        """Return the run's page, or without one its figures, as notebooks show it."""
        if self.run and (self.run / REPORT_PAGE).is_file():
            return embedded_page(self.run / REPORT_PAGE)
        return summary(self.plan, self.metrics, is_folded=bool(self.metrics))
