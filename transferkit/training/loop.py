"""The training loop: phases of epochs of steps, an evaluation after each, the best epoch kept."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from transferkit.devices import Precision, autocast
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
"""Epoch to its batches: what enters the trained part, (B, ...) float32, and (B,) int64 labels."""


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
        batches: Gives an epoch's batches, on the device.
        validate: Looks at the validation images.
    """

    trained: Callable[[Tensor], Tensor]
    prepare: Callable[[int], None]
    batches: Batches
    validate: Callable[[], Validation]

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's batches, with what they need computed first."""
        self.prepare(epoch)
        return self.batches(epoch)


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that takes part in an epoch.

    Attributes:
        module: On its device.
        device: Where it is.
        precision: What its layers compute in.
        scaler: For gradients in fp16.
        optimizer: Holds every parameter that is trained at some time.
        schedule: Steps once a batch.
        criterion: The loss.
        batch_norm: `eval` or `train`, for the trainable stages.
        feed: Gives what the trained part of the module reads, once it is frozen for a phase.
        images_per_epoch: How many training images an epoch has.
    """

    module: nn.Module
    device: torch.device
    precision: Precision
    scaler: torch.amp.GradScaler
    optimizer: Optimizer
    schedule: Schedule
    criterion: Criterion
    batch_norm: BatchNorm
    feed: Callable[[Phase], Feed]
    images_per_epoch: int


@dataclass
class Fit:
    """How far training has come; with the states of module, optimizer and schedule it can go on.

    Attributes:
        history: One row an epoch.
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
    best: int = -1
    best_state: dict[str, Tensor] = field(default_factory=dict)
    best_probabilities: NDArray[np.float32] | None = None
    frozen: dict[str, int] = field(default_factory=dict)
    images: int = 0
    frozen_seconds: float = 0.0
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0


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
    train_mode(setup.module, setup.batch_norm)
    restart_thawed(setup.optimizer)
    feed = setup.feed(phase)
    epochs = last.epochs.stop - 1
    for epoch in range(len(result.history) + 1, phase.epochs.stop):
        row, val = _epoch(setup, feed, phase.name, epoch, epochs, result, reporter)
        if is_best := _better(row, result):
            result.best = epoch - 1
            result.best_probabilities = val.probabilities
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
    setup: TrainingSetup,
    feed: Feed,
    phase: str,
    epoch: int,
    epochs: int,
    result: Fit,
    reporter: Reporter,
) -> tuple[EpochRow, Validation]:
    beginning = time.perf_counter()
    setup.module.eval()
    feed.prepare(epoch)
    started = time.perf_counter()
    train_mode(setup.module, setup.batch_norm)
    with reporter.progress(f"epoch {epoch}/{epochs}", setup.images_per_epoch) as progress:
        loss, accuracy, applied = train_one_epoch(setup, feed, epoch, report=progress.advance)
    trained = time.perf_counter()
    setup.module.eval()
    val = feed.validate()
    _require_finite("validation", val.loss, epoch)
    ended = time.perf_counter()
    result.images += setup.images_per_epoch
    result.frozen_seconds += started - beginning
    result.training_seconds += trained - started
    result.evaluation_seconds += ended - trained
    seconds = ended - beginning
    row = EpochRow(epoch, phase, loss, accuracy, val.loss, val.accuracy, *applied, seconds)
    result.history.append(row)
    return row, val


def train_one_epoch(
    setup: TrainingSetup, feed: Feed, epoch: int, *, report: Callable[[int, str], None]
) -> tuple[float, float, tuple[float, float]]:
    """Run one pass over the training images.

    Returns:
        Mean loss and accuracy over the epoch's images, as they were when each was seen, and the
        (head, backbone) learning rates of the last step.

    Raises:
        TransferKitError: When the loss is not a finite number.
    """
    loss_sum = torch.zeros((), device=setup.device)
    correct = torch.zeros((), device=setup.device)
    seen, shown, applied = 0, "", applied_rates(setup.optimizer)
    for step, (inputs, labels) in enumerate(feed.batches(epoch)):
        applied = applied_rates(setup.optimizer)
        loss, logits = training_step(setup, feed.trained, inputs, labels)
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


def training_step(
    setup: TrainingSetup, trained: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Take one step on a batch.

    Args:
        setup: What takes part.
        trained: To logits.
        inputs: What it reads, (B, ...).
        labels: (B,) int64.

    Returns:
        The loss, a scalar, and the logits (B, C), both without gradient.
    """
    with autocast(setup.device, setup.precision):
        logits = trained(inputs)
    loss = setup.criterion(logits.float(), labels)
    setup.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    setup.scaler.unscale_(setup.optimizer)
    trainable = [p for p in setup.module.parameters() if p.requires_grad]
    nn.utils.clip_grad_norm_(trainable, max_norm=_MAX_GRADIENT_NORM)
    setup.scaler.step(setup.optimizer)
    setup.scaler.update()
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
