"""The training loop: phases of epochs of steps, an evaluation after each, the best epoch kept."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from transferkit.errors import TransferKitError
from transferkit.models.freezing import BatchNorm, freeze, frozen_names, train_mode
from transferkit.models.phases import Phase
from transferkit.models.weights import copy_tensors
from transferkit.reporting import EpochRow, Reporter
from transferkit.training.loss import Criterion
from transferkit.training.optimizer import applied_rates, restart_thawed
from transferkit.training.proof import Digests, digests, require_unchanged
from transferkit.training.schedule import Schedule

_SHOW_EVERY = 10
_MAX_GRADIENT_NORM = 1.0

Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""Epoch to its batches: (B, 3, H, W) float32 and (B,) int64, both on the device."""


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that takes part in an epoch.

    Attributes:
        module: On its device.
        accelerator: Brings precision, gradient clipping and distribution.
        optimizer: Holds every parameter that is trained at some time.
        schedule: Steps once a batch.
        criterion: The loss.
        batch_norm: `eval` or `train`, for the trainable stages.
        batches: Gives an epoch's batches.
        images_per_epoch: How many images these hold.
        validate: Gives (loss, accuracy) on the validation images.
    """

    module: nn.Module
    accelerator: Accelerator
    optimizer: Optimizer
    schedule: Schedule
    criterion: Criterion
    batch_norm: BatchNorm
    batches: Batches
    images_per_epoch: int
    validate: Callable[[], tuple[float, float]]


@dataclass
class Fit:
    """How far training has come; with the states of module, optimizer and schedule it can go on.

    Attributes:
        history: One row an epoch.
        best: Position in `history` of the best epoch, -1 before the first.
        best_state: What had changed by then, by name.
        frozen: Phase -> how many tensors were frozen in it, and found unchanged after it.
        images: Training images seen.
        seconds: Of training, without evaluation.
    """

    history: list[EpochRow] = field(default_factory=list)
    best: int = -1
    best_state: dict[str, Tensor] = field(default_factory=dict)
    frozen: dict[str, int] = field(default_factory=dict)
    images: int = 0
    seconds: float = 0.0


def fit(
    setup: TrainingSetup,
    phases: Sequence[Phase],
    *,
    patience: int,
    reporter: Reporter,
    so_far: Fit | None = None,
) -> Fit:
    """Train the setup's module and leave it with the weights of its best epoch.

    The best epoch has the highest validation accuracy, of equals the lowest validation loss.

    Args:
        setup: What takes part.
        phases: Which stages are trained in which epochs.
        patience: Stop after so many epochs of the last phase without a new best; 0 never does.
        reporter: Told of every epoch.
        so_far: What an interrupted call had reached; changed in place. Its epochs are not
            repeated, and the phase that follows them is the one it would have been.

    Raises:
        TransferKitError: When the loss stops being a number, or a frozen tensor changed.
    """
    result = Fit() if so_far is None else so_far
    known: Digests = {}
    for phase in phases:
        if len(result.history) + 1 < phase.epochs.stop:
            known = _fit_phase(setup, phase, phases[-1], result, patience, reporter, known)
    copy_tensors(result.best_state, setup.module)
    return result


def _fit_phase(
    setup: TrainingSetup,
    phase: Phase,
    last: Phase,
    result: Fit,
    patience: int,
    reporter: Reporter,
    known: Digests,
) -> Digests:
    """Run what is left of a phase, and prove that it left alone what it froze.

    Args:
        setup: What takes part.
        phase: The phase.
        last: The run's last phase.
        result: How far training has come; changed in place.
        patience: Counted in the last phase.
        reporter: Told of every epoch.
        known: What the phase before ended with, so that nothing is computed twice; each phase
            freezes a part of what the one before did.

    Returns:
        The digests of the frozen tensors.
    """
    frozen = frozen_names(setup.module, phase.parameters, setup.batch_norm)
    before = {n: known[n] for n in frozen} if known else digests(setup.module, frozen)
    freeze(setup.module, phase.parameters)
    restart_thawed(setup.optimizer)
    epochs = last.epochs.stop - 1
    for epoch in range(len(result.history) + 1, phase.epochs.stop):
        row = _epoch(setup, phase.name, epoch, epochs, result, reporter)
        if is_best := _better(row, result):
            result.best = epoch - 1
            result.best_state = _copy_of_trained(setup.module, last.parameters)
        reporter.epoch(row, epochs, is_best)
        idle = epoch - max(result.best + 1, last.epochs.start - 1)
        if patience and idle >= patience and epoch < epochs:
            reporter.notice(f"stopped early: no better epoch for {patience} epochs")
            break
    after = digests(setup.module, frozen)
    require_unchanged(before, after)
    result.frozen[phase.name] = len(frozen)
    return after


def _epoch(
    setup: TrainingSetup, phase: str, epoch: int, epochs: int, result: Fit, reporter: Reporter
) -> EpochRow:
    started = time.perf_counter()
    train_mode(setup.module, setup.batch_norm)
    with reporter.progress(f"epoch {epoch}/{epochs}", setup.images_per_epoch) as progress:
        loss, accuracy, applied = train_one_epoch(setup, epoch, report=progress.advance)
    result.seconds += time.perf_counter() - started
    result.images += setup.images_per_epoch
    val_loss, val_accuracy = setup.validate()
    _require_finite("validation", val_loss, epoch)
    seconds = time.perf_counter() - started
    row = EpochRow(epoch, phase, loss, accuracy, val_loss, val_accuracy, *applied, seconds)
    result.history.append(row)
    return row


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
    seen, shown, applied = 0, "", applied_rates(setup.optimizer)
    for step, (images, labels) in enumerate(setup.batches(epoch)):
        applied = applied_rates(setup.optimizer)
        loss, logits = training_step(setup, images, labels)
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


def training_step(setup: TrainingSetup, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Take one step on a batch.

    Returns:
        The loss, a scalar, and the logits (B, C), both without gradient.
    """
    logits = setup.module(images)
    loss = setup.criterion(logits.float(), labels)
    setup.accelerator.backward(loss)
    trainable = [p for p in setup.module.parameters() if p.requires_grad]
    setup.accelerator.clip_grad_norm_(trainable, max_norm=_MAX_GRADIENT_NORM)
    setup.optimizer.step()
    setup.schedule.step()
    setup.optimizer.zero_grad()
    return loss.detach(), logits.detach()


def _better(row: EpochRow, result: Fit) -> bool:
    if result.best < 0:
        return True
    best = result.history[result.best]
    return (row.val_accuracy, -row.val_loss) > (best.val_accuracy, -best.val_loss)


def _copy_of_trained(module: nn.Module, trained: Collection[str]) -> dict[str, Tensor]:
    """Copies of the parameters that are trained at some time, and of all buffers."""
    # What is frozen in every phase cannot have changed; BatchNorm's buffers of trained parts can.
    frozen = {name for name, _ in module.named_parameters()} - set(trained)
    return {k: v.detach().clone() for k, v in module.state_dict().items() if k not in frozen}
