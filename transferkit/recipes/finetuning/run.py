"""A fine-tuning run in progress, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from transferkit.data.dataset import Dataset
    from transferkit.inference import ComputeSettings
    from transferkit.models.network import Network
    from transferkit.options.finetune import FinetuneOptions
    from transferkit.recipes.finetuning.settings import (
        FeatureSettings,
        RunSettings,
        TrainingSettings,
    )
    from transferkit.reporting import EpochRow, Plan, Reporter
    from transferkit.run.stopwatch import Stopwatch
    from transferkit.training.range_test import RangeTest

S = TypeVar("S", bound="RunSettings", covariant=True)

ShouldStop = Callable[["EpochRow"], bool]
"""Asked after every epoch but the last; True ends the run there, to be resumed later."""


@dataclass(frozen=True, eq=False)
class FinetuneRun(Generic[S]):
    """Everything that the steps of a run share.

    Attributes:
        options: As given.
        dataset: Read and split.
        network: With the weights that training begins with, on its device.
        settings: Everything that the options leave open, resolved.
        folder: The folder to fill; None for a dry run.
        reporter: Receives everything that the run has to say.
        stopwatch: Running since the run began.
        should_stop: Asked after every epoch.
    """

    options: FinetuneOptions
    dataset: Dataset
    network: Network
    settings: S
    folder: Path | None
    reporter: Reporter
    stopwatch: Stopwatch
    should_stop: ShouldStop

    @property
    def compute(self) -> ComputeSettings:
        """Device, precision, batch size and threads."""
        return self.settings.compute

    @property
    def draws_report(self) -> bool:
        """Whether the run's page is drawn at its end."""
        return self.options.report

    @property
    def output(self) -> Path:
        """The folder to fill, of a run that is no dry run."""
        assert self.folder is not None
        return self.folder


TrainingRun: TypeAlias = "FinetuneRun[TrainingSettings]"
FeaturesRun: TypeAlias = "FinetuneRun[FeatureSettings]"


@dataclass(frozen=True)
class FinetuneResult:
    """What a run left.

    Attributes:
        run: Its folder; None for a dry run.
        plan: What was decided before training.
        metrics: The content of metrics.json; empty for a run that did not reach its end.
        history: One row per epoch.
        val_paths: The validation images, relative to the dataset.
        val_probabilities: (N, C) float32, the model's probabilities for them.
        range_test: The result of `--find-lr` or `--lr auto`.
    """

    run: Path | None
    plan: Plan
    metrics: dict[str, Any]
    history: tuple[EpochRow, ...] = ()
    val_paths: tuple[str, ...] = ()
    val_probabilities: NDArray[np.float32] | None = None
    range_test: RangeTest | None = None
