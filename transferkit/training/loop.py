"""The training loop: phases of epochs of steps; validates each epoch and keeps the best."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from transferkit.errors import DivergedError, OtherProcessError
from transferkit.models.freezing import freeze, frozen_names, train_mode
from transferkit.models.strategies import Phase
from transferkit.models.weights import copy_tensors
from transferkit.reporter import EpochRow, Progress, Reporter
from transferkit.training.followed_steps import FollowedSteps
from transferkit.training.frozen_proof import Digests, digests, require_unchanged
from transferkit.training.optimizer import applied_rates, restart_thawed
from transferkit.training.setup import PhaseData, TrainingSetup, Validation
from transferkit.training.state import (
    EpochState,
    SavesNothing,
    StateSaver,
    TrainingState,
    changing_tensors,
)
from transferkit.training.step import training_step

_SHOW_EVERY = 10


def fit(
    setup: TrainingSetup,
    phases: Sequence[Phase],
    *,
    patience: int,
    reporter: Reporter,
    so_far: TrainingState | None = None,
    saver: StateSaver = SavesNothing(),  # noqa: B008 (it has no state)
    should_stop: Callable[[EpochRow], bool] = lambda row: False,
    seconds_left: Callable[[], float] = lambda: math.inf,
) -> TrainingState:
    """Train the setup's module and leave it with the weights of its best epoch.

    The best epoch has the highest validation accuracy; ties go to the lower validation loss.

    Args:
        setup: Module, optimizer, schedule, loss and data.
        phases: Which parameters are trained in which epochs.
        patience: Stop after this many epochs of the last phase without a new best; 0 disables
            early stopping.
        reporter: Receives every epoch, and every step if it follows steps.
        so_far: State of an interrupted call; changed in place. Training continues from there as
            if it had not been interrupted.
        saver: Called after each step and epoch, and when the run is stopped.
        should_stop: Asked after every epoch but the last; True saves the state and pauses the run.
        seconds_left: How long training may still take. An epoch that is running when no time is
            left ends early, and none begins whose steps would take longer than is left.

    Returns:
        State at the end of training, or where the run was paused; a paused run keeps its
        current weights.

    Raises:
        DivergedError: When the loss is no longer finite.
        TransferKitError: When a frozen tensor changed.
    """
    result = TrainingState() if so_far is None else so_far
    run = _Run(
        setup,
        phases,
        result,
        patience,
        reporter,
        saver,
        should_stop,
        seconds_left,
        FollowedSteps(setup, reporter),
    )
    known: Digests = {}
    for phase in phases:
        if len(result.history) + 1 < phase.epochs.stop and not run.is_over:
            known = run.run_phase(phase, known)
    if not result.is_paused:
        copy_tensors(result.best_state, setup.module)
    return result


@dataclass(frozen=True, eq=False)
class _Run:
    """One call of `fit`."""

    setup: TrainingSetup
    phases: Sequence[Phase]
    result: TrainingState
    patience: int
    reporter: Reporter
    saver: StateSaver
    should_stop: Callable[[EpochRow], bool]
    seconds_left: Callable[[], float]
    followed: FollowedSteps

    @property
    def epochs(self) -> int:
        return self.phases[-1].epochs.stop - 1

    @property
    def has_converged(self) -> bool:
        """Whether the last `patience` epochs brought no new best."""
        result, last = self.result, self.phases[-1]
        idle = len(result.history) - max(result.best + 1, last.epochs.start - 1)
        return bool(self.patience) and idle >= self.patience

    @property
    def has_ended(self) -> bool:
        """Whether the run trains no further epoch, neither in this call nor in a later one."""
        return self.has_converged or self.result.is_out_of_time

    @property
    def is_over(self) -> bool:
        """Whether this call trains no further epoch."""
        return self.has_ended or self.result.is_paused

    def run_phase(self, phase: Phase, known: Digests) -> Digests:
        """Run the rest of a phase and prove that its frozen tensors did not change.

        Args:
            phase: The phase.
            known: Digests from the end of the previous phase, reused so that nothing is computed
                twice: each phase freezes a subset of what the previous one froze.

        Returns:
            The digests of the frozen tensors.
        """
        setup, result = self.setup, self.result
        frozen = frozen_names(setup.module, phase.parameters, setup.batch_norm)
        before = {n: known[n] for n in frozen} if known else digests(setup.module, frozen)
        freeze(setup.module, phase.parameters)
        train_mode(setup.module, setup.batch_norm)
        restart_thawed(setup.optimizer)
        data = setup.data_of(phase)
        for epoch in range(len(result.history) + 1, phase.epochs.stop):
            self._run_epoch(data, phase, epoch)
            if self.has_ended or epoch + 1 == phase.epochs.stop:
                before = self._prove(phase, frozen, before)
            self._finish_epoch(epoch)
            if self.is_over:
                break
        if result.is_out_of_time:
            self.reporter.notice("stopped early: the time for training is spent")
        elif self.has_converged and len(result.history) < self.epochs:
            self.reporter.notice(f"stopped early: no better epoch for {self.patience} epochs")
        return before

    def _prove(self, phase: Phase, frozen: Sequence[str], before: Digests) -> Digests:
        after = digests(self.setup.module, frozen)
        require_unchanged(before, after)
        self.result.frozen[phase.name] = len(frozen)
        return after

    def _finish_epoch(self, epoch: int) -> None:
        """Save and report a finished epoch; pause the run if `should_stop` says so."""
        result, row = self.result, self.result.history[-1]
        self.saver.after_epoch(self.setup, result)
        with self._saving_if_interrupted():
            self.reporter.epoch(row, self.epochs, result.best == epoch - 1)
        if epoch < self.epochs and not self.has_ended and self.should_stop(row):
            self.saver.save(self.setup, result)
            result.is_paused = True

    def _run_epoch(self, data: PhaseData, phase: Phase, epoch: int) -> None:
        setup, result = self.setup, self.result
        so_far = result.epoch or EpochState.begin(setup.device)
        result.epoch = so_far
        beginning = time.perf_counter()
        setup.module.eval()
        with self._saving_if_interrupted():
            data.prepare(epoch)
        so_far.frozen_seconds += time.perf_counter() - beginning
        train_mode(setup.module, setup.batch_norm)
        train = self._train(data, epoch, so_far)
        setup.module.eval()
        started = time.perf_counter()
        with self._saving_if_interrupted():
            val = data.validate()
        _require_finite("validation", val.loss, epoch)
        self._add_epoch(phase, train, val, time.perf_counter() - started)

    def _add_epoch(
        self,
        phase: Phase,
        train: tuple[float, float],
        val: Validation,
        evaluation_seconds: float,
    ) -> None:
        """Add the epoch in progress to the history, and keep its weights if it is the best."""
        setup, result, so_far = self.setup, self.result, self.result.epoch
        assert so_far is not None
        epoch = len(result.history) + 1
        result.images += so_far.images
        result.frozen_seconds += so_far.frozen_seconds
        result.training_seconds += so_far.training_seconds
        result.evaluation_seconds += evaluation_seconds
        seconds = so_far.frozen_seconds + so_far.training_seconds + evaluation_seconds
        row = EpochRow(epoch, phase.name, *train, val.loss, val.accuracy, *so_far.rates, seconds)
        result.history.append(row)
        result.epoch = None
        # What frozen layers took is left out: later epochs mostly read it from a cache.
        again = so_far.training_seconds + evaluation_seconds
        result.is_out_of_time |= epoch < self.epochs and self.seconds_left() < again
        if _is_better(row, result):
            result.best = epoch - 1
            result.best_probabilities = val.probabilities
            result.best_state = changing_tensors(setup.module, setup.trained)

    @contextmanager
    def _saving_if_interrupted(self) -> Iterator[None]:
        """Save a checkpoint if the block, which changes no state, is interrupted."""
        try:
            yield
        except (KeyboardInterrupt, OtherProcessError):
            self.saver.save(self.setup, self.result)
            raise

    def _train(self, data: PhaseData, epoch: int, so_far: EpochState) -> tuple[float, float]:
        """Train on the rest of an epoch's batches.

        Args:
            data: Yields the batches.
            epoch: Number of the epoch, from 1.
            so_far: State of the epoch; changed in place.

        Returns:
            Mean loss and accuracy over the epoch's images, each measured when the image was seen.
        """
        description = f"epoch {epoch}/{self.epochs}"
        with (
            self.saver.deferring_stop(self.setup, self.result),
            self.reporter.progress(description, self.setup.images_per_epoch) as progress,
        ):
            progress.advance(so_far.images)
            try:
                self._take_steps(data, epoch, so_far, progress)
            except KeyboardInterrupt:
                # Of several processes, the others may read nothing any more.
                if not self.setup.processes.are_several:
                    self._read_sums(so_far)
                raise
            loss_sum, correct = self._read_sums(so_far)
            mean = loss_sum / so_far.images
            _require_finite("training", mean, epoch)
            return mean, correct / so_far.images

    def _read_sums(self, so_far: EpochState) -> tuple[float, float]:
        """Return the sum of losses and the number of correct answers, and report the steps so far.

        Waits for the device.
        """
        loss_sum, correct, losses = so_far.collect(self.setup.processes, self.followed.losses)
        self.followed.report(losses)
        return loss_sum, correct

    def _take_steps(
        self, data: PhaseData, epoch: int, so_far: EpochState, progress: Progress
    ) -> None:
        shown, started = "", time.perf_counter()
        for batch in data.batches(epoch, so_far.steps):
            count = len(batch.all_labels)
            so_far.rates = applied_rates(self.setup.optimizer)
            self.followed.begin_step()
            loss, logits = training_step(self.setup, data.trained, batch)
            self.followed.end_step(epoch, loss)
            so_far.images += count
            so_far.loss_sum += loss * count
            so_far.correct += (logits.argmax(dim=1) == batch.labels).sum()
            if so_far.steps % _SHOW_EVERY == 0:
                # Reading a number waits for the device: one sync per `_SHOW_EVERY` steps.
                mean = self._read_sums(so_far)[0] / so_far.images
                _require_finite("training", mean, epoch)
                shown = f"loss {mean:.3f}"
            so_far.steps += 1
            progress.advance(count, shown)
            so_far.training_seconds += time.perf_counter() - started
            self.saver.after_step(self.setup, self.result)
            if self.seconds_left() <= 0 and so_far.images < self.setup.images_per_epoch:
                self.result.is_out_of_time = True
                break
            started = time.perf_counter()


def _require_finite(which: str, loss: float, epoch: int) -> None:
    if not np.isfinite(loss):
        raise DivergedError(
            f"the {which} loss became {loss} in epoch {epoch}; try a lower --lr "
            "(and --backbone-lr), or --precision fp32"
        )


def _is_better(row: EpochRow, result: TrainingState) -> bool:
    if result.best < 0:
        return True
    best = result.history[result.best]
    return (row.val_accuracy, -row.val_loss) > (best.val_accuracy, -best.val_loss)
