"""The training loop: phases of epochs of steps, an evaluation after each, the best epoch kept."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from transferkit.devices import Precision, autocast
from transferkit.errors import DivergedError
from transferkit.memory import Pieces
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


def fit(
    setup: TrainingSetup,
    phases: Sequence[Phase],
    *,
    patience: int,
    reporter: Reporter,
    so_far: Fit | None = None,
    keeper: Keeper = KeepNothing(),  # noqa: B008 (it has no state)
) -> Fit:
    """Train the setup's module and leave it with the weights of its best epoch.

    The best epoch has the highest validation accuracy, of equals the lowest validation loss.

    Args:
        setup: What takes part.
        phases: Which stages are trained in which epochs.
        patience: Stop after so many epochs of the last phase without a new best; 0 never does.
        reporter: Told of every epoch.
        so_far: What an interrupted call had reached; changed in place. What it did is not
            repeated, and the phase that follows is the one it would have been.
        keeper: Told after each step and epoch, and when the run is stopped.

    Raises:
        DivergedError: When the loss stops being a number.
        TransferKitError: When a frozen tensor changed.
    """
    result = Fit() if so_far is None else so_far
    run = _Run(setup, phases, result, patience, reporter, keeper)
    known: Digests = {}
    for phase in phases:
        if len(result.history) + 1 < phase.epochs.stop and not run.is_over:
            known = run.run_phase(phase, known)
    copy_tensors(result.best_state, setup.module)
    return result


@dataclass(frozen=True, eq=False)
class _Run:
    """A call of `fit`."""

    setup: TrainingSetup
    phases: Sequence[Phase]
    result: Fit
    patience: int
    reporter: Reporter
    keeper: Keeper

    @property
    def epochs(self) -> int:
        return self.phases[-1].epochs.stop - 1

    @property
    def is_over(self) -> bool:
        """Whether the last epochs brought nothing better."""
        result, last = self.result, self.phases[-1]
        idle = len(result.history) - max(result.best + 1, last.epochs.start - 1)
        return bool(self.patience) and idle >= self.patience

    def run_phase(self, phase: Phase, known: Digests) -> Digests:
        """Run what is left of a phase, and prove that it left alone what it froze.

        Args:
            phase: The phase.
            known: What the phase before ended with, so that nothing is computed twice; each phase
                freezes a part of what the one before did.

        Returns:
            The digests of the frozen tensors.
        """
        setup, result = self.setup, self.result
        frozen = frozen_names(setup.module, phase.parameters, setup.batch_norm)
        before = {n: known[n] for n in frozen} if known else digests(setup.module, frozen)
        freeze(setup.module, phase.parameters)
        train_mode(setup.module, setup.batch_norm)
        restart_thawed(setup.optimizer)
        feed = setup.feed(phase)
        for epoch in range(len(result.history) + 1, phase.epochs.stop):
            self._run_epoch(feed, phase, epoch)
            if is_last := self.is_over or epoch + 1 == phase.epochs.stop:
                before = self._prove(phase, frozen, before)
            self.keeper.after_epoch(setup, result)
            if is_last:
                break
        if self.is_over and len(result.history) < self.epochs:
            self.reporter.notice(f"stopped early: no better epoch for {self.patience} epochs")
        return before

    def _prove(self, phase: Phase, frozen: Sequence[str], before: Digests) -> Digests:
        after = digests(self.setup.module, frozen)
        require_unchanged(before, after)
        self.result.frozen[phase.name] = len(frozen)
        return after

    def _run_epoch(self, feed: Feed, phase: Phase, epoch: int) -> None:
        setup, result = self.setup, self.result
        so_far = result.epoch or EpochSoFar.begin(setup.device)
        result.epoch = so_far
        beginning = time.perf_counter()
        setup.module.eval()
        with self._saving():
            feed.prepare(epoch)
        so_far.frozen_seconds += time.perf_counter() - beginning
        train_mode(setup.module, setup.batch_norm)
        train = self._train(feed, epoch, so_far)
        setup.module.eval()
        started = time.perf_counter()
        with self._saving():
            val = feed.validate()
        _require_finite("validation", val.loss, epoch)
        evaluation_seconds = time.perf_counter() - started
        result.images += setup.images_per_epoch
        result.frozen_seconds += so_far.frozen_seconds
        result.training_seconds += so_far.training_seconds
        result.evaluation_seconds += evaluation_seconds
        seconds = so_far.frozen_seconds + so_far.training_seconds + evaluation_seconds
        row = EpochRow(epoch, phase.name, *train, val.loss, val.accuracy, *so_far.rates, seconds)
        result.history.append(row)
        result.epoch = None
        if is_best := _better(row, result):
            result.best = epoch - 1
            result.best_probabilities = val.probabilities
            result.best_state = changing_tensors(setup.module, setup.trained)
        self.reporter.epoch(row, self.epochs, is_best)

    @contextmanager
    def _saving(self) -> Iterator[None]:
        """What is stopped in the block, which changes no state, is kept."""
        try:
            yield
        except KeyboardInterrupt:
            self.keeper.save(self.setup, self.result)
            raise

    def _train(self, feed: Feed, epoch: int, so_far: EpochSoFar) -> tuple[float, float]:
        told = f"epoch {epoch}/{self.epochs}"
        with (
            self.keeper.deferring_stop(self.setup, self.result),
            self.reporter.progress(told, self.setup.images_per_epoch) as progress,
        ):
            progress.advance(so_far.images)
            return train_one_epoch(
                self.setup,
                feed,
                epoch,
                so_far,
                report=progress.advance,
                after_step=lambda: self.keeper.after_step(self.setup, self.result),
            )


def train_one_epoch(
    setup: TrainingSetup,
    feed: Feed,
    epoch: int,
    so_far: EpochSoFar,
    *,
    report: Callable[[int, str], None],
    after_step: Callable[[], None],
) -> tuple[float, float]:
    """Run what is left of one pass over the training images.

    Args:
        setup: What takes part.
        feed: Gives the batches.
        epoch: Its number, from 1.
        so_far: Counts what is done; changed in place.
        report: Told of the images of each step.
        after_step: Called when a step is counted.

    Returns:
        Mean loss and accuracy over the epoch's images, as they were when each was seen.

    Raises:
        DivergedError: When the loss is not a finite number.
    """
    shown, started = "", time.perf_counter()
    for inputs, labels in feed.batches(epoch, so_far.steps):
        so_far.rates = applied_rates(setup.optimizer)
        loss, logits = training_step(setup, feed.trained, inputs, labels)
        so_far.images += len(labels)
        so_far.loss_sum += loss * len(labels)
        so_far.correct += (logits.argmax(dim=1) == labels).sum()
        if so_far.steps % _SHOW_EVERY == 0:
            # Reading a number off the device waits for it, so not at every step.
            mean = float(so_far.loss_sum) / so_far.images
            _require_finite("training", mean, epoch)
            shown = f"loss {mean:.3f}"
        so_far.steps += 1
        report(len(labels), shown)
        so_far.training_seconds += time.perf_counter() - started
        after_step()
        started = time.perf_counter()
    mean = float(so_far.loss_sum) / so_far.images
    _require_finite("training", mean, epoch)
    return mean, float(so_far.correct) / so_far.images


def _require_finite(which: str, loss: float, epoch: int) -> None:
    if not np.isfinite(loss):
        raise DivergedError(
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
    random = torch.get_rng_state()

    def undo() -> None:
        setup.optimizer.zero_grad()
        torch.set_rng_state(random)

    loss, logits = setup.pieces.run(
        len(labels), lambda size: _add_gradients(setup, trained, inputs, labels, size), undo
    )
    setup.scaler.unscale_(setup.optimizer)
    trainable = [p for p in setup.module.parameters() if p.requires_grad]
    nn.utils.clip_grad_norm_(trainable, max_norm=_MAX_GRADIENT_NORM)
    setup.scaler.step(setup.optimizer)
    setup.scaler.update()
    setup.schedule.step()
    setup.optimizer.zero_grad()
    return loss, logits


def _add_gradients(
    setup: TrainingSetup,
    trained: Callable[[Tensor], Tensor],
    inputs: Tensor,
    labels: Tensor,
    size: int,
) -> tuple[Tensor, Tensor]:
    """Add up the gradients of a batch's loss, so many images at a time."""
    losses, outputs = [], []
    for part, part_labels in zip(torch.split(inputs, size), torch.split(labels, size), strict=True):
        with autocast(setup.device, setup.precision):
            logits = trained(part)
        loss = setup.criterion(logits.float(), part_labels)
        if size < len(labels):
            # The loss is a mean: of parts each counts by the weight of its images.
            loss = loss * setup.criterion.weight(part_labels) / setup.criterion.weight(labels)
        setup.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        outputs.append(logits.detach())
    if len(losses) == 1:
        return losses[0], outputs[0]
    return torch.stack(losses).sum(), torch.cat(outputs)


def _better(row: EpochRow, result: Fit) -> bool:
    if result.best < 0:
        return True
    best = result.history[result.best]
    return (row.val_accuracy, -row.val_loss) > (best.val_accuracy, -best.val_loss)


def changing_tensors(module: nn.Module, trained: Collection[str]) -> dict[str, Tensor]:
    """Copies of the parameters that are trained at some time, and of all buffers, by name."""
    # What is frozen in every phase cannot have changed; BatchNorm's buffers of trained parts can.
    frozen = {name for name, _ in module.named_parameters()} - set(trained)
    return {k: v.detach().clone() for k, v in module.state_dict().items() if k not in frozen}
