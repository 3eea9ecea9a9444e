"""The training loop: epochs of steps, an evaluation after each, the best epoch kept."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from transferkit.errors import TransferKitError
from transferkit.models.freezing import train_mode
from transferkit.models.weights import copy_tensors
from transferkit.reporting import EpochRow, Reporter
from transferkit.training.loss import Criterion
from transferkit.training.optimizer import rates

_SHOW_EVERY = 10
_MAX_GRADIENT_NORM = 1.0

Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""Epoch to its batches: (B, 3, H, W) float32 and (B,) int64, both on the device."""


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that takes part in an epoch.

    Attributes:
        module: On its device, its frozen parameters without gradient.
        accelerator: Brings precision, gradient clipping and distribution.
        optimizer: Holds the trainable parameters.
        scheduler: Steps once a batch.
        criterion: The loss.
        batches: Gives an epoch's batches.
        images_per_epoch: How many images these hold.
        validate: Gives (loss, accuracy) on the validation images.
    """

    module: nn.Module
    accelerator: Accelerator
    optimizer: Optimizer
    scheduler: LRScheduler
    criterion: Criterion
    batches: Batches
    images_per_epoch: int
    validate: Callable[[], tuple[float, float]]


@dataclass
class Fit:
    """What training gave.

    Attributes:
        history: One row an epoch.
        best: Position in `history` of the best epoch, whose weights the module carries.
        images: Training images seen.
        seconds: Of training, without evaluation.
    """

    history: list[EpochRow] = field(default_factory=list)
    best: int = -1
    images: int = 0
    seconds: float = 0.0


def fit(setup: TrainingSetup, *, epochs: int, patience: int, phase: str, reporter: Reporter) -> Fit:
    """Train the setup's module and leave it with the weights of its best epoch.

    The best epoch has the highest validation accuracy, of equals the lowest validation loss.

    Args:
        setup: What takes part.
        epochs: At most so many.
        patience: Stop after so many epochs without a new best; 0 never stops early.
        phase: Name of what is being trained, for the history.
        reporter: Told of every epoch.

    Raises:
        TransferKitError: When the loss stops being a number.
    """
    result, best_state = Fit(), {}
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        train_mode(setup.module)
        with reporter.progress(f"epoch {epoch}/{epochs}", setup.images_per_epoch) as progress:
            loss, accuracy, applied = train_one_epoch(setup, epoch, report=progress.advance)
        result.seconds += time.perf_counter() - started
        result.images += setup.images_per_epoch
        val_loss, val_accuracy = setup.validate()
        seconds = time.perf_counter() - started
        row = EpochRow(epoch, phase, loss, accuracy, val_loss, val_accuracy, *applied, seconds)
        _require_finite("validation", val_loss, epoch)
        result.history.append(row)
        if is_best := _better(row, result):
            result.best = epoch - 1
            best_state = _copy_of_trainable(setup.module)
        reporter.epoch(row, epochs, is_best)
        if patience and epoch - 1 - result.best >= patience and epoch < epochs:
            reporter.notice(f"stopped early: no better epoch for {patience} epochs")
            break
    copy_tensors(best_state, setup.module)
    return result


def train_one_epoch(
    setup: TrainingSetup, epoch: int, *, report: Callable[[int, str], None]
) -> tuple[float, float, tuple[float, float]]:
    """Run one pass over the training images.

    Returns:
        Mean loss and accuracy over the epoch's images, as they were when each was seen, and the
        (head, backbone) learning rates of the last step.

    Raises:
        TransferKitError: When the loss is not a finite number.
    """
    loss_sum = torch.zeros((), device=setup.accelerator.device)
    correct = torch.zeros((), device=setup.accelerator.device)
    seen, shown, applied = 0, "", rates(setup.optimizer)
    for step, (images, labels) in enumerate(setup.batches(epoch)):
        applied = rates(setup.optimizer)
        loss, logits = _step(setup, images, labels)
        seen += len(labels)
        loss_sum += loss * len(labels)
        correct += (logits.argmax(dim=1) == labels).sum()
        if step % _SHOW_EVERY == 0:
            # Reading a number off the device waits for it, so not at every step.
            shown = f"loss {float(loss_sum) / seen:.3f}"
        report(len(labels), shown)
    loss_mean = float(loss_sum) / seen
    _require_finite("training", loss_mean, epoch)
    return loss_mean, float(correct) / seen, applied


def _require_finite(which: str, loss: float, epoch: int) -> None:
    if not np.isfinite(loss):
        raise TransferKitError(
            f"the {which} loss became {loss} in epoch {epoch}; try a lower --lr "
            "(and --backbone-lr), or --precision fp32"
        )


def _step(setup: TrainingSetup, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = setup.module(images)
    loss = setup.criterion(logits.float(), labels)
    setup.accelerator.backward(loss)
    trainable = [p for p in setup.module.parameters() if p.requires_grad]
    setup.accelerator.clip_grad_norm_(trainable, max_norm=_MAX_GRADIENT_NORM)
    setup.optimizer.step()
    setup.scheduler.step()
    setup.optimizer.zero_grad()
    return loss.detach(), logits.detach()


def _better(row: EpochRow, result: Fit) -> bool:
    if result.best < 0:
        return True
    best = result.history[result.best]
    return (row.val_accuracy, -row.val_loss) > (best.val_accuracy, -best.val_loss)


def _copy_of_trainable(module: nn.Module) -> dict[str, Tensor]:
    # Frozen tensors cannot have changed; BatchNorm buffers of trained parts can.
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {k: v.detach().clone() for k, v in module.state_dict().items() if k not in frozen}
