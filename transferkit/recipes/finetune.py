"""Train a classifier on a folder of images and leave a run that explains itself."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.bundle import ModelBundle
from transferkit.data.check import check_images
from transferkit.data.dataset import Dataset
from transferkit.data.index import scan
from transferkit.data.split import assign_splits
from transferkit.devices import default_workers
from transferkit.errors import TransferKitError, name_some
from transferkit.files import write_json
from transferkit.metrics import majority_baseline, summarize
from transferkit.models.network import Network
from transferkit.models.phases import Strategy
from transferkit.recipes.caching import settle_caches
from transferkit.recipes.compute import create_pass
from transferkit.recipes.estimate import estimate_seconds
from transferkit.recipes.features import create_backbone, create_extractor
from transferkit.recipes.finetune_options import TRAINED_BY_GRADIENT, FinetuneOptions
from transferkit.recipes.plan import create_plan
from transferkit.recipes.run_folder import (
    METRICS,
    MODEL,
    choose_run,
    clear_run,
    resolved_options,
    write_history,
    write_inputs,
    write_range_test,
)
from transferkit.recipes.settling import settle_phases, settle_rates, settled
from transferkit.recipes.stopwatch import CHECKING, EVALUATION, FROZEN, TRAINING, Stopwatch
from transferkit.recipes.training_setup import create_setup
from transferkit.recipes.work import Work
from transferkit.reporting import SILENT, EpochRow, Plan, Reporter
from transferkit.training.loop import Fit, fit
from transferkit.training.optimizer import require_optimizer
from transferkit.training.range_test import STEPS, RangeTest, find_learning_rate
from transferkit.training.schedule import Scheduler


@dataclass(frozen=True)
class FinetuneResult:
    """What a run left.

    Attributes:
        run: Its folder; None for a dry run.
        plan: What was decided before training.
        metrics: The content of metrics.json; empty for a dry run.
        history: One row an epoch.
        val_paths: The validation images, relative to the dataset.
        val_probabilities: (N, C) float32, what the model says of them.
        range_test: What `--find-lr` or `--lr auto` found.
    """

    run: Path | None
    plan: Plan
    metrics: dict[str, Any]
    history: tuple[EpochRow, ...] = ()
    val_paths: tuple[str, ...] = ()
    val_probabilities: NDArray[np.float32] | None = None
    range_test: RangeTest | None = None


def finetune(options: FinetuneOptions, reporter: Reporter = SILENT) -> FinetuneResult:
    """Train as the options say and write the run's folder.

    Raises:
        DataError: When the dataset cannot be used.
        WeightsError: When the backbone's weights cannot be had or do not fit.
        UnknownNameError: When there is no such backbone or optimizer.
        OptionError: When an option cannot work with this backbone or machine.
        OutputError: When the run's folder is there already or cannot be written.
        TransferKitError: When the loss is no number, or a frozen tensor changed.
    """
    watch = Stopwatch()
    require_optimizer(options.optimizer)
    run = None if options.dry_run else choose_run(options)
    with watch.part(CHECKING):
        dataset = _dataset(options, reporter)
    if options.strategy is Strategy.FEATURES:
        return _finetune_features(options, dataset, run, reporter, watch)
    network = create_backbone(
        options,
        backbone=options.backbone,
        weights=options.weights,
        num_classes=len(dataset.index.class_names),
    )
    how = create_pass(options, network)
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
    clear_run(run)
    resolved = resolved_options(run, options, network, how) | settled(options, network, rates)
    write_inputs(run, dataset, network, resolved)
    if test:
        write_range_test(run, test)
    if options.find_lr:
        return FinetuneResult(run, plan, {}, range_test=test)
    result = _train(work, rates, run, watch)
    metrics = _metrics(dataset, network, result)
    bundle = ModelBundle(network, dataset.index.class_names, _provenance(options))
    _save(run, bundle, metrics, watch)
    paths = dataset.paths("val")
    return FinetuneResult(
        run, plan, metrics, tuple(result.history), paths, result.best_probabilities, test
    )


def _finetune_features(
    options: FinetuneOptions,
    dataset: Dataset,
    run: Path | None,
    reporter: Reporter,
    watch: Stopwatch,
) -> FinetuneResult:
    # Here and not above: scikit-learn takes seconds to import, and the other strategies need none.
    from transferkit.recipes.fit_features import create_features_plan, fit_on_features

    extractor = create_extractor(options, backbone=options.backbone, weights=options.weights)
    plan = create_features_plan(options, dataset, extractor)
    if run is None:
        return FinetuneResult(None, plan, {})
    reporter.plan(plan)
    network = extractor.network
    how = create_pass(options, network)
    clear_run(run)
    taken = {"layer": extractor.layers, "pool": extractor.pool}
    resolved = resolved_options(run, options, network, how) | taken
    applied = {k: v for k, v in resolved.items() if k not in TRAINED_BY_GRADIENT}
    write_inputs(run, dataset, network, applied)
    result = fit_on_features(options, dataset, extractor, how, reporter, watch)
    names = dataset.index.class_names
    bundle = ModelBundle(network, names, _provenance(options), result.head)
    _save(run, bundle, result.metrics, watch)
    paths, values = dataset.paths("val"), result.val_probabilities
    return FinetuneResult(run, plan, result.metrics, (), paths, values)


def _save(run: Path, bundle: ModelBundle, metrics: dict[str, Any], watch: Stopwatch) -> None:
    bundle.save(run / MODEL)
    metrics["seconds"] = watch.total
    metrics["time"] = watch.report()
    write_json(run / METRICS, metrics)


def _dataset(options: FinetuneOptions, reporter: Reporter) -> Dataset:
    index = scan(options.data)
    if options.val:
        index = index.with_validation(scan(options.val))
    workers = options.workers or default_workers()
    checked = check_images(index, workers=workers, reporter=reporter)
    splits = assign_splits(
        checked.index, checked.sha256, val_fraction=options.val_fraction, seed=options.seed
    )
    dataset = Dataset(checked.index, checked.sha256, splits)
    if shared := dataset.leaked():
        reporter.notice(
            f"{len(shared)} images stand in training and in validation or test, so that the "
            f"accuracy will flatter: {name_some(shared)}"
        )
    return dataset


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


def _train(work: Work, rates: Mapping[str, float], run: Path, watch: Stopwatch) -> Fit:
    setup, result = create_setup(work, rates, work.options.scheduler), Fit()
    try:
        fit(
            setup,
            work.phases,
            patience=work.options.patience,
            reporter=work.reporter,
            so_far=result,
        )
    finally:
        # Also of a run that fails or is stopped: what it has seen so far may explain why.
        if result.history:
            write_history(run, result.history)
    watch.add(FROZEN, result.frozen_seconds)
    watch.add(TRAINING, result.training_seconds)
    watch.add(EVALUATION, result.evaluation_seconds)
    return result


def _metrics(dataset: Dataset, network: Network, result: Fit) -> dict[str, Any]:
    labels = dataset.index.labels
    val_labels, train_labels = labels[dataset.rows("val")], labels[dataset.rows("train")]
    best, probabilities = result.history[result.best], result.best_probabilities
    assert probabilities is not None
    parameters = list(network.module.parameters())
    return {
        "val": summarize(val_labels, probabilities, dataset.index.class_names),
        "train": {
            "accuracy": best.train_accuracy,
            "loss": best.train_loss,
            "n": len(train_labels),
            "epoch": best.epoch,
        },
        "majority_baseline": majority_baseline(val_labels, train_labels),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "total_parameters": sum(p.numel() for p in parameters),
        "images_per_second": result.images / (result.frozen_seconds + result.training_seconds),
        "frozen": {
            "tensors": max(result.frozen.values()),
            "unchanged": True,
            "by_phase": result.frozen,
        },
    }


def _provenance(options: FinetuneOptions) -> dict[str, Any]:
    features = options.strategy is Strategy.FEATURES
    how = {"classifier": options.classifier} if features else {"unfreeze": options.unfreeze}
    return {
        "backbone": options.backbone,
        "weights": options.weights,
        "strategy": str(options.strategy),
        **how,
    }
