"""The records that training works on: setup, data of a phase, and validation results."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from transferkit.devices import Precision
from transferkit.memory import MicroBatches
from transferkit.models.freezing import BatchNorm
from transferkit.models.strategies import Phase
from transferkit.processes import ALONE, Processes
from transferkit.training.loss import Criterion
from transferkit.training.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch, or what one of several processes computes of it.

    Attributes:
        inputs: (b, ...) float32, which enter the trained layers. A process without an image of its
            own has that of another, because all must take part in a step.
        labels: (b,) int64 of its own images.
        all_labels: (B,) int64 of the whole batch.
    """

    inputs: Tensor
    labels: Tensor
    all_labels: Tensor


Batches = Callable[[int, int], Iterator[Batch]]
"""`batches(epoch, skip)` yields an epoch's batches after the first `skip`, on the device."""


@dataclass(frozen=True, eq=False)
class Validation:
    """Results on the validation images.

    Attributes:
        loss: Mean cross-entropy in nats.
        accuracy: Share of images classified correctly, from 0 to 1.
        probabilities: (N, C) float32.
    """

    loss: float
    accuracy: float
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PhaseData:
    """The layers that a phase trains, and the data they read.

    Attributes:
        trained: The layers after the frozen ones, or the whole module: inputs to logits (B, C).
            With several processes, a backward pass also exchanges their gradients.
        prepare: Computes the frozen layers' outputs for an epoch, unless they are cached.
        batches: Yields an epoch's batches.
        validate: Evaluates the module on the validation images.
    """

    trained: Callable[[Tensor], Tensor]
    prepare: Callable[[int], None]
    batches: Batches
    validate: Callable[[], Validation]

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Prepare an epoch and return its batches."""
        self.prepare(epoch)
        return self.batches(epoch, 0)


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that training needs.

    Attributes:
        module: The network's module, on `device`.
        trained: Names of the parameters that some phase trains.
        device: Device of the module.
        precision: Precision of its forward pass.
        scaler: Gradient scaler for fp16; disabled otherwise.
        optimizer: Holds every parameter that some phase trains.
        schedule: Learning rate schedule, stepped once per batch.
        criterion: The loss.
        batch_norm: Mode of BatchNorm in the trainable stages, `eval` or `train`.
        data_of: Returns a phase's layers and data, once the module is frozen for it.
        images_per_epoch: Number of training images in an epoch.
        seed: Seed of the random numbers that steps draw.
        micro_batches: Number of images that are computed at once.
        processes: The processes that train together.
    """

    module: nn.Module
    trained: frozenset[str]
    device: torch.device
    precision: Precision
    scaler: torch.amp.GradScaler
    optimizer: Optimizer
    schedule: Schedule
    criterion: Criterion
    batch_norm: BatchNorm
    data_of: Callable[[Phase], PhaseData]
    images_per_epoch: int
    seed: int = 0
    micro_batches: MicroBatches = field(default_factory=MicroBatches)
    processes: Processes = ALONE
