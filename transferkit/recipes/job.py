"""What a run of `finetune` begins with, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from transferkit.data.dataset import Dataset
    from transferkit.recipes.finetune_options import FinetuneOptions
    from transferkit.recipes.stopwatch import Stopwatch
    from transferkit.reporting import EpochRow, Plan, Reporter
    from transferkit.training.range_test import RangeTest


@dataclass(frozen=True)
class Job:
    """What is to be done, before there is a network.

    Attributes:
        options: As given.
        dataset: Read and divided.
        run: The folder to fill; None for a dry run.
        reporter: Told of everything.
        watch: Running since the beginning.
    """

    options: FinetuneOptions
    dataset: Dataset
    run: Path | None
    reporter: Reporter
    watch: Stopwatch

    @property
    def draws_report(self) -> bool:
        """Whether the run's page is drawn at its end."""
        return self.options.report


@dataclass(frozen=True)
class FinetuneResult:
    """What a run left.

    Attributes:
        run: Its folder; None for a dry run.
        plan: What was decided before training.
        metrics: The content of metrics.json; empty for a dry run.
        history: One row an epoch.
        val_paths: The validation images, relative to the dataset.
        val_probabilities: (N, C) float32, what the model says of them.
        range_test: What `--find-lr` or `--lr auto` found.
    """

    run: Path | None
    plan: Plan
    metrics: dict[str, Any]
    history: tuple[EpochRow, ...] = ()
    val_paths: tuple[str, ...] = ()
    val_probabilities: NDArray[np.float32] | None = None
    range_test: RangeTest | None = None
