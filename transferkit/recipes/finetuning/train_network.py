"""The strategies that train the network itself: partial, full and gradual."""

import shlex
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.calibration import Calibration
from transferkit.data.dataset import Dataset
from transferkit.errors import DivergedError, OtherProcessError, TransferKitError
from transferkit.metrics import majority_baseline, summarize
from transferkit.models.network import Network
from transferkit.models.weights import copy_tensors
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes.finetuning.calibrate import (
    calibrate_network,
    describe_calibration,
)
from transferkit.recipes.finetuning.create_setup import create_setup
from transferkit.recipes.finetuning.estimate import estimate_seconds
from transferkit.recipes.finetuning.measure_usual import usual_by_network
from transferkit.recipes.finetuning.outputs import (
    claimed_by_first,
    leave_report,
    write_beginning,
    write_model,
    write_range_test,
)
from transferkit.recipes.finetuning.plan import create_plan
from transferkit.recipes.finetuning.resolve_settings import resolve_training
from transferkit.recipes.finetuning.run_in_progress import FinetuneResult, TrainingRun
from transferkit.recipes.finetuning.settings import TrainingSettings
from transferkit.recipes.finetuning.start_head import start_head
from transferkit.recipes.shared.backbone import create_backbone
from transferkit.recipes.shared.compute_settings import resolve_compute
from transferkit.reporter import Reporter
from transferkit.run.folder import CHECKPOINT
from transferkit.run.record import write_history
from transferkit.run.stopwatch import EVALUATION, FROZEN, TRAINING
from transferkit.training.checkpoint import Checkpoints
from transferkit.training.loop import fit
from transferkit.training.lr_range_test import STEPS, RangeTest, find_learning_rate
from transferkit.training.randomness import seeded
from transferkit.training.schedule import Scheduler
from transferkit.training.state import TrainingState


def prepare_training(
    options: FinetuneOptions, dataset: Dataset, reporter: Reporter
) -> tuple[Network, TrainingSettings]:
    """Build the network with a new head, and resolve the settings.

    Raises:
        UnknownNameError: When there is no such backbone.
        WeightsError: When the backbone's weights are not available or do not fit.
        OptionError: When an option cannot work with this backbone or machine.
    """
    network = create_backbone(
        options,
        reporter,
        backbone=options.backbone,
        weights=options.weights,
        num_classes=len(dataset.index.class_names),
    )
    compute = resolve_compute(
        options, network, reporter, engine=options.engine, images=len(dataset.index)
    )
    return network, resolve_training(options, dataset, network, compute)


def train_network(run: TrainingRun) -> FinetuneResult:
    """Train as the run's settings say; raises what `finetune` raises."""
    seconds = estimate_seconds(run)
    plan = create_plan(run, seconds)
    if run.options.dry_run:
        return FinetuneResult(None, plan, {})
    run.reporter.plan(plan)
    start_head(run)
    test = _test_rates(run) if run.options.tests_rates else None
    if test and not run.options.find_lr:
        rate = _suggested_rate(test)
        run = replace(run, settings=run.settings.with_learning_rate(rate))
        plan = create_plan(run, seconds)
        run.reporter.notice(f"--lr auto: {rate:g}, {test.reason}")
    # Only now, because bad data or weights must not destroy the run that is being replaced.
    with claimed_by_first(run):
        if run.processes.is_first:
            write_beginning(run, plan)
        if test and run.processes.is_first:
            write_range_test(run.output, test)
        if run.options.find_lr:
            return FinetuneResult(run.folder, plan, {}, range_test=test)
        state, saved = _train_and_save(run)
    return FinetuneResult(
        run.folder,
        plan,
        saved.metrics if saved else {},
        tuple(state.history),
        run.dataset.paths("val"),
        saved.probabilities if saved else state.best_probabilities,
        test,
    )


@dataclass(frozen=True, eq=False)
class _Saved:
    """What a finished run saved.

    Attributes:
        metrics: The content of metrics.json.
        probabilities: (N, C) float32 of the validation images, calibrated.
    """

    metrics: dict[str, Any]
    probabilities: NDArray[np.float32]


def _test_rates(run: TrainingRun) -> RangeTest:
    """Run a learning rate range test on a copy of the network."""
    network = replace(run.network, module=deepcopy(run.network.module))
    copy = replace(run, network=network, settings=run.settings.for_copy(network))
    images = STEPS * run.compute.batch_size
    with (
        seeded(run.options.seed, run.compute.device),
        run.reporter.progress("learning rate range test", images) as progress,
    ):
        setup = create_setup(copy, Scheduler.NONE)
        return find_learning_rate(setup, run.settings.last_phase, report=progress.advance)


def _suggested_rate(test: RangeTest) -> float:
    if test.suggestion is None:
        raise TransferKitError(
            f"--lr auto: {test.reason}; look at the curve with --find-lr, and give --lr a number"
        )
    return test.suggestion


def _train_and_save(run: TrainingRun) -> tuple[TrainingState, _Saved | None]:
    """Train from the beginning or from the checkpoint, and save the model.

    Returns:
        The state, and what was saved; None if the run is paused, and in all processes but the
        first.
    """
    every = 60 * run.options.checkpoint_minutes
    checkpoints = Checkpoints(run.output / CHECKPOINT, every, run.processes)
    with seeded(run.options.seed, run.compute.device):
        state = _train(run, checkpoints)
    if state.is_paused or not run.processes.is_first:
        return state, None
    run.stopwatch.add(FROZEN, state.frozen_seconds)
    run.stopwatch.add(TRAINING, state.training_seconds)
    run.stopwatch.add(EVALUATION, state.evaluation_seconds)
    saved = _save(run, state)
    checkpoints.remove()
    return state, saved


def _train(run: TrainingRun, checkpoints: Checkpoints) -> TrainingState:
    options, reporter = run.options, run.reporter
    setup = create_setup(run, options.scheduler)
    loaded = checkpoints.load(setup) if options.resume else None
    state = loaded or TrainingState()
    if options.resume:
        reporter.notice(_where_it_resumes(state))
        run.stopwatch.resume_from(state.seconds)
    try:
        fit(
            setup,
            [entry.phase for entry in run.settings.phases],
            patience=options.patience,
            reporter=reporter,
            so_far=state,
            saver=checkpoints,
            should_stop=run.should_stop,
            seconds_left=run.training_seconds_left,
        )
    except (KeyboardInterrupt, OtherProcessError):
        reporter.resumable(_resuming_command(run))
        raise
    except DivergedError as error:
        raise _saved_before(error, run, state) from error
    finally:
        # A run that fails or is stopped has a history too, which may explain why.
        if state.history and run.processes.is_first:
            write_history(run.output, state.history)
    return state


def _resuming_command(run: TrainingRun) -> str:
    options = run.options
    data, folder = shlex.quote(str(options.data)), shlex.quote(str(run.output))
    several = f" --processes {options.processes}" if options.processes else ""
    return f"transferkit finetune {data} -o {folder} --resume{several}"


def _save(run: TrainingRun, state: TrainingState, **more: str) -> _Saved:
    """Calibrate the network, and write the model, its metrics and the page.

    Args:
        run: A run whose network has the weights of its best epoch.
        state: The state at the end of training.
        more: Further content of metrics.json.
    """
    assert state.best_probabilities is not None
    # After a divergence it is still in train mode, in which BatchNorm's statistics change.
    run.network.module.eval()
    calibration = calibrate_network(run, state.best_probabilities)
    metrics = {**_metrics(run, state, calibration), **more}
    bundle = write_model(
        run,
        metrics,
        probabilities=calibration.probabilities,
        trained={"unfreeze": str(run.options.unfreeze)},
        usual=usual_by_network(run),
    )
    leave_report(run, bundle, metrics)
    return _Saved(metrics, calibration.probabilities)


def _where_it_resumes(state: TrainingState) -> str:
    if state.epoch and state.epoch.steps:
        epoch = len(state.history) + 1
        return f"resumes in epoch {epoch}, after {state.epoch.images} images"
    done = len(state.history)
    return f"resumes after epoch {done}" if done else "starts over: no epoch was finished"


def _saved_before(error: DivergedError, run: TrainingRun, state: TrainingState) -> TransferKitError:
    """Save the best epoch before the loss diverged, if there was one; return the error to raise."""
    if state.best < 0:
        return error

    def save() -> str:
        copy_tensors(state.best_state, run.network.module)
        _save(run, state, stopped=str(error))
        best = state.history[state.best].epoch
        return f"{error}; the model of epoch {best}, the best before, is in {run.output}"

    return DivergedError(run.processes.from_first(save))


def _metrics(run: TrainingRun, state: TrainingState, calibration: Calibration) -> dict[str, Any]:
    """Return the content of metrics.json."""
    dataset, labels = run.dataset, run.dataset.index.labels
    val_labels, train_labels = labels[dataset.rows("val")], labels[dataset.rows("train")]
    best, before = state.history[state.best], state.best_probabilities
    assert before is not None
    sizes = {name: p.numel() for name, p in run.network.module.named_parameters()}
    seconds = state.frozen_seconds + state.training_seconds
    return {
        "val": summarize(val_labels, calibration.probabilities, dataset.index.class_names),
        "calibration": describe_calibration(calibration, val_labels, before),
        "train": {
            "accuracy": best.train_accuracy,
            "loss": best.train_loss,
            "n": len(train_labels),
            "epoch": best.epoch,
        },
        "majority_baseline": majority_baseline(val_labels, train_labels),
        "trainable_parameters": sum(sizes[name] for name in run.settings.last_phase.parameters),
        "total_parameters": sum(sizes.values()),
        "images_per_second": state.images / seconds,
        "frozen": {
            "tensors": max(state.frozen.values(), default=0),
            "unchanged": True,
            "by_phase": state.frozen,
        },
    }
