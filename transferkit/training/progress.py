"""How far a run has come, and who keeps that."""

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transferkit.reporting import EpochRow
from transferkit.training.setup import TrainingSetup


@dataclass(eq=False)
class EpochSoFar:
    """How far an epoch has come.

    Attributes:
        steps: Batches done.
        images: Images in them.
        loss_sum: Of their losses, a scalar on the device.
        correct: How many of the images were classified rightly, likewise.
        frozen_seconds: Wall time of the frozen layers so far.
        training_seconds: Of the steps.
        rates: The (head, backbone) learning rates of the last step.
    """

    steps: int
    images: int
    loss_sum: Tensor
    correct: Tensor
    frozen_seconds: float = 0.0
    training_seconds: float = 0.0
    rates: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def begin(cls, device: torch.device) -> "EpochSoFar":
        """None of it."""
        return cls(0, 0, torch.zeros((), device=device), torch.zeros((), device=device))


@dataclass
class Fit:
    """How far training has come; with the states of module, optimizer and schedule it can go on.

    Attributes:
        history: One row an epoch.
        epoch: The epoch after them, where it has begun.
        best: Position in `history` of the best epoch, -1 before the first.
        best_state: What had changed by then, by name.
        best_probabilities: (N, C) float32, what that epoch's module said of the validation images.
        frozen: Phase -> how many tensors were frozen in it, and found unchanged after it.
        images: Training images seen.
        frozen_seconds: Wall time of the frozen layers, where they are computed beforehand.
        training_seconds: Of training.
        evaluation_seconds: Of validation.
    """

    history: list[EpochRow] = field(default_factory=list)
    epoch: EpochSoFar | None = None
    best: int = -1
    best_state: dict[str, Tensor] = field(default_factory=dict)
    best_probabilities: NDArray[np.float32] | None = None
    frozen: dict[str, int] = field(default_factory=dict)
    images: int = 0
    frozen_seconds: float = 0.0
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Wall time of all of it."""
        begun = self.epoch.frozen_seconds + self.epoch.training_seconds if self.epoch else 0.0
        return begun + self.frozen_seconds + self.training_seconds + self.evaluation_seconds


class Keeper(Protocol):
    """Keeps how far a run has come."""

    def deferring_stop(self, setup: TrainingSetup, fit: Fit) -> AbstractContextManager[None]:
        """Within it `after_step` says when the run stops, or the block's end."""

    def after_step(self, setup: TrainingSetup, fit: Fit) -> None:
        """A step is done, and counted in `fit.epoch`; raises when the run is to stop."""

    def after_epoch(self, setup: TrainingSetup, fit: Fit) -> None:
        """An epoch is done; if it is its phase's last, what was frozen has been proved."""

    def save(self, setup: TrainingSetup, fit: Fit) -> None:
        """Keep the present state: the run is being stopped."""


class KeepNothing:
    """Keeps nothing and stops nothing."""

    def deferring_stop(self, setup: TrainingSetup, fit: Fit) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def after_step(self, setup: TrainingSetup, fit: Fit) -> None:
        """Nothing."""

    def after_epoch(self, setup: TrainingSetup, fit: Fit) -> None:
        """Nothing."""

    def save(self, setup: TrainingSetup, fit: Fit) -> None:
        """Nothing."""


def changing_tensors(module: nn.Module, trained: Collection[str]) -> dict[str, Tensor]:
    """Copies of the parameters that are trained at some time, and of all buffers, by name."""
    # What is frozen in every phase cannot have changed; BatchNorm's buffers of trained parts can.
    frozen = {name for name, _ in module.named_parameters()} - set(trained)
    return {k: v.detach().clone() for k, v in module.state_dict().items() if k not in frozen}
