"""Everything that takes part in training."""

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
from transferkit.models.phases import Phase
from transferkit.training.loss import Criterion
from transferkit.training.schedule import Schedule

Batches = Callable[[int, int], Iterator[tuple[Tensor, Tensor]]]
"""`batches(epoch, skip)` yields (inputs, labels) after the first `skip`: what enters the trained
layers, (B, ...) float32, and (B,) int64."""


@dataclass(frozen=True, eq=False)
class Validation:
    """How the module does on the validation images.

    Attributes:
        loss: Mean cross-entropy in nats.
        accuracy: A fraction.
        probabilities: (N, C) float32.
    """

    loss: float
    accuracy: float
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PhaseData:
    """The layers that a phase trains, and the data they read.

    Attributes:
        trained: The layers behind the frozen ones, or the whole module: inputs to logits (B, C).
        prepare: Computes the frozen layers' output for an epoch, where that is not known yet.
        batches: Yields an epoch's batches, on the device.
        validate: Measures the layers on the validation images.
    """

    trained: Callable[[Tensor], Tensor]
    prepare: Callable[[int], None]
    batches: Batches
    validate: Callable[[], Validation]

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Return an epoch's batches, after preparing what they read."""
        self.prepare(epoch)
        return self.batches(epoch, 0)


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that takes part in an epoch.

    Attributes:
        module: On its device.
        trained: Names of the parameters that are trained at some time.
        device: Where it is.
        precision: What its layers compute in.
        scaler: For gradients in fp16.
        optimizer: Holds every parameter that is trained at some time.
        schedule: Steps once a batch.
        criterion: The loss.
        batch_norm: `eval` or `train`, for the trainable stages.
        data_of: A phase to its layers and data, once the module is frozen for it.
        images_per_epoch: How many training images an epoch has.
        micro_batches: How much of a batch fits in memory.
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
    micro_batches: MicroBatches = field(default_factory=MicroBatches)
