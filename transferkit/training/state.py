"""The state of a training run, and the protocol of whoever saves it."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transferkit.processes import Processes
from transferkit.reporter import EpochRow
from transferkit.training.setup import TrainingSetup


@dataclass(eq=False)
class EpochState:
    """State of an epoch.

    Of several processes, each adds up the losses and correct answers of its own images, until
    `collect` moves them to the first.

    Attributes:
        steps: Batches trained so far.
        images: Images in those batches, of all processes.
        loss_sum: Sum of the images' losses, a scalar on the device.
        correct: Number of images classified correctly, a scalar on the device.
        frozen_seconds: Wall time of the frozen layers so far.
        training_seconds: Wall time of the training steps so far.
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
    def begin(cls, device: torch.device) -> "EpochState":
        """Return the state of an epoch before its first step."""
        return cls(0, 0, torch.zeros((), device=device), torch.zeros((), device=device))

    def collect(
        self, processes: Processes, losses: Sequence[Tensor] = ()
    ) -> tuple[float, float, list[float]]:
        """Move the sums of all processes to the first one, and return them; waits for the device.

        Args:
            processes: The processes that train.
            losses: Scalars on the device, as many in every process, to read in the same wait.

        Returns:
            The sum of the losses and the number of correct answers, of all processes; and `losses`,
            each added up over the processes.
        """
        own = [self.loss_sum, self.correct.to(self.loss_sum), *losses]
        totals = processes.total(torch.stack(own))
        if processes.are_several:
            self.loss_sum, self.correct = (total.clone() for total in totals[:2])
        if not processes.is_first:
            self.forget_sums()
        loss_sum, correct, *others = totals.tolist()
        return loss_sum, correct, others

    def move_sums(self, device: torch.device) -> None:
        """Move the sums to a device."""
        self.loss_sum, self.correct = self.loss_sum.to(device), self.correct.to(device)

    def forget_sums(self) -> None:
        """Leave the sums to the first process."""
        self.loss_sum, self.correct = (torch.zeros_like(n) for n in (self.loss_sum, self.correct))


@dataclass
class TrainingState:
    """State of a training run.

    Together with the states of module, optimizer and schedule it is all that training needs to
    resume.

    Attributes:
        history: One row per finished epoch.
        epoch: State of the epoch after those, once it has begun.
        best: Index in `history` of the best epoch; -1 before the first.
        best_state: Name -> tensor of that epoch, for every tensor that training can change.
        best_probabilities: (N, C) float32 of the validation images in that epoch.
        frozen: Phase name -> number of tensors it froze and found unchanged at its end.
        images: Training images seen.
        frozen_seconds: Wall time of the frozen layers, where they are computed beforehand.
        training_seconds: Wall time of training.
        evaluation_seconds: Wall time of validation.
        is_paused: Whether `should_stop` ended the run after its last row, to be resumed later.
        is_out_of_time: Whether the run ended after its last row because its time was spent.
    """

    history: list[EpochRow] = field(default_factory=list)
    epoch: EpochState | None = None
    best: int = -1
    best_state: dict[str, Tensor] = field(default_factory=dict)
    best_probabilities: NDArray[np.float32] | None = None
    frozen: dict[str, int] = field(default_factory=dict)
    images: int = 0
    frozen_seconds: float = 0.0
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    is_paused: bool = False
    is_out_of_time: bool = False

    @property
    def seconds(self) -> float:
        """Wall time of the finished epochs and of the current one so far."""
        begun = self.epoch.frozen_seconds + self.epoch.training_seconds if self.epoch else 0.0
        return begun + self.frozen_seconds + self.training_seconds + self.evaluation_seconds


class StateSaver(Protocol):
    """Saves the state of a run."""

    def deferring_stop(
        self, setup: TrainingSetup, state: TrainingState
    ) -> AbstractContextManager[None]:
        """Defer Ctrl-C and SIGTERM to the next `after_step`, or to the end of the block."""

    def after_step(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Receive a finished step; raise if a deferred signal stops the run."""

    def after_epoch(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Receive a finished epoch; a phase's last one has passed the check of frozen tensors."""

    def save(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Save the current state, because the run is being stopped."""


class SavesNothing:
    """Saves nothing and stops nothing."""

    def deferring_stop(
        self, setup: TrainingSetup, state: TrainingState
    ) -> AbstractContextManager[None]:
        """Defer nothing."""
        return nullcontext()

    def after_step(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Do nothing."""

    def after_epoch(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Do nothing."""

    def save(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Do nothing."""


def changing_tensors(module: nn.Module, trained: Collection[str]) -> dict[str, Tensor]:
    """Return copies of the parameters that some phase trains, and of all buffers, by name."""
    # Parameters frozen in every phase cannot have changed; BatchNorm's running statistics can.
    frozen = {name for name, _ in module.named_parameters()} - set(trained)
    return {k: v.detach().clone() for k, v in module.state_dict().items() if k not in frozen}
