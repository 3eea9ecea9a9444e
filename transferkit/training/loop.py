"""The training loop: phases of epochs of steps, an evaluation after each, the best epoch kept."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from transferkit.errors import DivergedError
from transferkit.interruption import StopRun
from transferkit.models.freezing import freeze, frozen_names, train_mode
from transferkit.models.phases import Phase
from transferkit.models.weights import copy_tensors
from transferkit.reporting import EpochRow, Reporter
from transferkit.training.optimizer import applied_rates, restart_thawed
from transferkit.training.progress import EpochSoFar, Fit, Keeper, KeepNothing, changing_tensors
from transferkit.training.proof import Digests, digests, require_unchanged
from transferkit.training.setup import Feed, TrainingSetup
from transferkit.training.step import training_step

_SHOW_EVERY = 10


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
        StopRun: When the reporter raised it, with the state kept.
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
            with self._saving():
                self.reporter.epoch(result.history[-1], self.epochs, result.best == epoch - 1)
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
        if _better(row, result):
            result.best = epoch - 1
            result.best_probabilities = val.probabilities
            result.best_state = changing_tensors(setup.module, setup.trained)

    @contextmanager
    def _saving(self) -> Iterator[None]:
        """What is stopped in the block, which changes no state, is kept."""
        try:
            yield
        except (KeyboardInterrupt, StopRun):
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


def _better(row: EpochRow, result: Fit) -> bool:
    if result.best < 0:
        return True
    best = result.history[result.best]
    return (row.val_accuracy, -row.val_loss) > (best.val_accuracy, -best.val_loss)
