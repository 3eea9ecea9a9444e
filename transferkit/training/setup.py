"""Everything that takes part in training."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from transferkit.devices import Precision
from transferkit.memory import Pieces
from transferkit.models.freezing import BatchNorm
from transferkit.models.phases import Phase
from transferkit.training.loss import Criterion
from transferkit.training.schedule import Schedule

Batches = Callable[[int, int], Iterator[tuple[Tensor, Tensor]]]
"""Epoch and how many batches to leave out at first, to the others: what enters the trained part,
(B, ...) float32, and (B,) int64 labels."""


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
class Feed:
    """What is trained in a phase, and on what.

    Attributes:
        trained: The part of the module behind what is frozen, or all of it: to logits (B, C).
        prepare: Computes what an epoch reads and nothing has computed yet.
        batches: Gives an epoch's batches from one on, on the device.
        validate: Looks at the validation images.
    """

    trained: Callable[[Tensor], Tensor]
    prepare: Callable[[int], None]
    batches: Batches
    validate: Callable[[], Validation]

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's batches, with what they need computed first."""
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
        feed: Gives what the trained part of the module reads, once it is frozen for a phase.
        images_per_epoch: How many training images an epoch has.
        pieces: How much of a batch fits in memory.
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
    feed: Callable[[Phase], Feed]
    images_per_epoch: int
    pieces: Pieces = field(default_factory=Pieces)
