"""The strategies that train the network itself: partial, full and gradual."""

import shlex
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from transferkit.bundle import ModelBundle
from transferkit.errors import DivergedError, TransferKitError, WeightsError
from transferkit.metrics import majority_baseline, summarize
from transferkit.models.network import Network
from transferkit.models.weights import copy_tensors
from transferkit.recipes.caching import settle_caches
from transferkit.recipes.compute import create_pass
from transferkit.recipes.estimate import estimate_seconds
from transferkit.recipes.features import create_backbone
from transferkit.recipes.job import FinetuneResult, Job
from transferkit.recipes.plan import create_plan
from transferkit.recipes.report import leave_report
from transferkit.recipes.resuming import recorded_options
from transferkit.recipes.run_files import (
    backbone_digest,
    resolved_options,
    versions,
    write_history,
    write_inputs,
    write_model,
    write_range_test,
)
from transferkit.recipes.run_folder import CHECKPOINT, claimed
from transferkit.recipes.run_record import write_plan
from transferkit.recipes.settling import settle_phases, settle_rates, settled
from transferkit.recipes.stopwatch import EVALUATION, FROZEN, TRAINING
from transferkit.recipes.training_setup import create_setup
from transferkit.recipes.work import Work
from transferkit.reporting import Reporter
from transferkit.training.checkpoint import Checkpoints
from transferkit.training.loop import fit
from transferkit.training.progress import Fit
from transferkit.training.range_test import STEPS, RangeTest, find_learning_rate
from transferkit.training.schedule import Scheduler


def finetune_network(job: Job) -> FinetuneResult:
    """Train as the options say; raises what `finetune` raises."""
    options, dataset, run, reporter = job.options, job.dataset, job.run, job.reporter
    network = create_backbone(
        options,
        backbone=options.backbone,
        weights=options.weights,
        num_classes=len(dataset.index.class_names),
    )
    how = create_pass(options, network, reporter)
    phases, rates = settle_phases(options, network), settle_rates(options, network)
    caches = settle_caches(options, dataset, network, phases, how)
    plan = create_plan(options, dataset, network, phases, rates, caches)
    told = estimate_seconds(options, dataset, network, phases, caches, how)
    plan = replace(plan, seconds=told)
    if run is None:
        return FinetuneResult(None, plan, {})
    reporter.plan(plan)
    work = Work(options, dataset, network, phases, caches, how, reporter)
    test = _range_test(work, rates) if options.tests_rates else None
    if test and not options.find_lr:
        options = replace(options, learning_rate=_suggested(test))
        work, rates = replace(work, options=options), settle_rates(options, network)
        plan = create_plan(options, dataset, network, phases, rates, caches)
        reporter.notice(f"--lr auto: {options.learning_rate:g}, {test.reason}")
    # Only now: bad data or weights must not cost the run that is to be replaced.
    with claimed(run, options):
        if options.resume:
            _require_as_it_began(run, network, reporter)
        else:
            resolved = resolved_options(run, options, network, how)
            write_inputs(job, network, resolved | settled(options, network, rates))
        write_plan(run, plan)
        if test:
            write_range_test(run, test)
        if options.find_lr:
            return FinetuneResult(run, plan, {}, range_test=test)
        result, metrics = _train_and_save(job, work, rates)
    return FinetuneResult(
        run,
        plan,
        metrics,
        tuple(result.history),
        dataset.paths("val"),
        result.best_probabilities,
        test,
    )


def _require_as_it_began(run: Path, network: Network, reporter: Reporter) -> None:
    """Check that a run that is resumed has its weights.

    Raises:
        WeightsError: When the backbone now has others.
    """
    recorded = recorded_options(run)
    if recorded["weights_sha256"] != backbone_digest(network):
        raise WeightsError(
            f"{run}: began with other weights of {network.name} than are found now; put those "
            "back, or begin anew with --overwrite"
        )
    before, now = recorded["versions"], versions()
    if other := [f"{name} {before.get(name)} (now {now[name]})" for name in now
                 if now[name] != before.get(name)]:  # fmt: skip
        reporter.notice(
            f"the run began with {', '.join(other)}: what follows may differ in the last digits"
        )


def _range_test(work: Work, rates: Mapping[str, float]) -> RangeTest:
    network = replace(work.network, module=deepcopy(work.network.module))
    setup = create_setup(replace(work, network=network), rates, Scheduler.NONE)
    images = STEPS * work.how.batch_size
    with work.reporter.progress("learning rate range test", images) as progress:
        return find_learning_rate(setup, work.phases[-1], report=progress.advance)


def _suggested(test: RangeTest) -> float:
    if test.suggestion is None:
        raise TransferKitError(
            f"--lr auto: {test.reason}; look at the curve with --find-lr, and give --lr a number"
        )
    return test.suggestion


def _train_and_save(job: Job, work: Work, rates: Mapping[str, float]) -> tuple[Fit, dict[str, Any]]:
    """Train from the beginning or from the checkpoint, and write what the run leaves."""
    run = job.run
    assert run is not None
    setup = create_setup(work, rates, work.options.scheduler)
    checkpoints = Checkpoints(run / CHECKPOINT, 60 * work.options.checkpoint_minutes)
    so_far = checkpoints.load(setup) if work.options.resume else None
    result = so_far or Fit()
    if work.options.resume:
        work.reporter.notice(_where(result))
        job.watch.go_on_from(result.seconds)
    try:
        fit(
            setup,
            work.phases,
            patience=work.options.patience,
            reporter=work.reporter,
            so_far=result,
            keeper=checkpoints,
        )
    except KeyboardInterrupt:
        work.reporter.notice(
            f"the state of training is in {run}; go on with: transferkit finetune "
            f"{shlex.quote(str(work.options.data))} -o {shlex.quote(str(run))} --resume"
        )
        raise
    except DivergedError as error:
        raise _saved_before(error, job, work, result) from error
    finally:
        # Also of a run that fails or is stopped: what it has seen so far may explain why.
        if result.history:
            write_history(run, result.history)
    job.watch.add(FROZEN, result.frozen_seconds)
    job.watch.add(TRAINING, result.training_seconds)
    job.watch.add(EVALUATION, result.evaluation_seconds)
    metrics = _metrics(work, result)
    bundle = _write(job, work, result, metrics)
    checkpoints.remove()
    leave_report(job, bundle, work.how, metrics)
    return result, metrics


def _write(job: Job, work: Work, result: Fit, metrics: dict[str, Any]) -> ModelBundle:
    assert result.best_probabilities is not None
    return write_model(
        job,
        work.network,
        metrics,
        probabilities=result.best_probabilities,
        trained={"unfreeze": work.options.unfreeze},
    )


def _where(result: Fit) -> str:
    if result.epoch and result.epoch.steps:
        return f"goes on in epoch {len(result.history) + 1}, after {result.epoch.images} images"
    done = len(result.history)
    return f"goes on after epoch {done}" if done else "begins anew: no epoch was finished"


def _saved_before(error: DivergedError, job: Job, work: Work, result: Fit) -> TransferKitError:
    """Save the best epoch before the loss was lost, where there was one; the error to raise."""
    if result.best < 0:
        return error
    copy_tensors(result.best_state, work.network.module)
    metrics = _metrics(work, result)
    metrics["stopped"] = str(error)
    leave_report(job, _write(job, work, result, metrics), work.how, metrics)
    best = result.history[result.best].epoch
    return DivergedError(f"{error}; the model of epoch {best}, the best before, is in {job.run}")


def _metrics(work: Work, result: Fit) -> dict[str, Any]:
    dataset, labels = work.dataset, work.dataset.index.labels
    val_labels, train_labels = labels[dataset.rows("val")], labels[dataset.rows("train")]
    best, probabilities = result.history[result.best], result.best_probabilities
    assert probabilities is not None
    sizes = {name: p.numel() for name, p in work.network.module.named_parameters()}
    return {
        "val": summarize(val_labels, probabilities, dataset.index.class_names),
        "train": {
            "accuracy": best.train_accuracy,
            "loss": best.train_loss,
            "n": len(train_labels),
            "epoch": best.epoch,
        },
        "majority_baseline": majority_baseline(val_labels, train_labels),
        "trainable_parameters": sum(sizes[name] for name in work.phases[-1].parameters),
        "total_parameters": sum(sizes.values()),
        "images_per_second": result.images / (result.frozen_seconds + result.training_seconds),
        "frozen": {
            "tensors": max(result.frozen.values(), default=0),
            "unchanged": True,
            "by_phase": result.frozen,
        },
    }
