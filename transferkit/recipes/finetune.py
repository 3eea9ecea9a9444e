"""Train a classifier on a folder of images and leave a run that explains itself."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from transferkit.bundle import ModelBundle
from transferkit.data.check import check_images
from transferkit.data.dataset import Dataset
from transferkit.data.index import scan
from transferkit.data.loader import iterate_batches
from transferkit.data.split import assign_splits
from transferkit.data.transforms import normalize, train_transform
from transferkit.devices import create_accelerator, default_workers
from transferkit.errors import DataError, name_some
from transferkit.files import write_json
from transferkit.inference import Collected, Pass, collect, probabilities
from transferkit.metrics import log_loss, majority_baseline, summarize, top_k_accuracy
from transferkit.models.backbones import create_network
from transferkit.models.freezing import Strategy, freeze, trainable_stages
from transferkit.models.network import Network
from transferkit.models.stages import Stage
from transferkit.recipes.compute import create_pass
from transferkit.recipes.options import FinetuneOptions
from transferkit.recipes.plan import create_plan
from transferkit.recipes.run_folder import (
    METRICS,
    MODEL,
    choose_run,
    clear_run,
    write_history,
    write_inputs,
)
from transferkit.reporting import SILENT, EpochRow, Plan, Reporter
from transferkit.training.loop import Fit, TrainingSetup, fit
from transferkit.training.loss import class_weights, create_criterion
from transferkit.training.optimizer import create_optimizer
from transferkit.training.proof import frozen_digests, require_unchanged
from transferkit.training.schedule import warmup_cosine


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
    """

    run: Path | None
    plan: Plan
    metrics: dict[str, Any]
    history: tuple[EpochRow, ...] = ()
    val_paths: tuple[str, ...] = ()
    val_probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Work:
    """What the steps of a run share."""

    options: FinetuneOptions
    dataset: Dataset
    network: Network
    how: Pass
    reporter: Reporter


def finetune(options: FinetuneOptions, reporter: Reporter = SILENT) -> FinetuneResult:
    """Train as the options say and write the run's folder.

    Raises:
        DataError: When the dataset cannot be used.
        WeightsError: When the backbone's weights cannot be had or do not fit.
        UnknownNameError: When there is no such backbone.
        OptionError: When an option cannot work with this backbone or machine.
        OutputError: When the run's folder is there already or cannot be written.
        TransferKitError: When the loss is no number, or a frozen tensor changed.
    """
    started = time.perf_counter()
    run = None if options.dry_run else choose_run(options)
    dataset = _dataset(options, reporter)
    torch.manual_seed(options.seed)
    network = _network(options, len(dataset.index.class_names))
    trainable = trainable_stages(
        network.stages, strategy=options.strategy, unfreeze=options.unfreeze
    )
    plan = create_plan(options, dataset, network, trainable)
    if run is None:
        return FinetuneResult(None, plan, {})
    reporter.plan(plan)
    how = create_pass(options, network)
    # Only now: bad data or weights must not cost the run that is to be replaced.
    clear_run(run)
    write_inputs(run, options, dataset, network, how)
    freeze(network.module, {name for stage in trainable for name in stage.parameters})
    before = frozen_digests(network.module)
    work = _Work(options, dataset, network, how, reporter)
    result = _train(work, trainable)
    require_unchanged(before, frozen_digests(network.module))
    val = _validation(work)
    metrics = _metrics(dataset, network, result, val)
    metrics["frozen"] = {"tensors": len(before), "unchanged": True}
    ModelBundle(network, dataset.index.class_names, _provenance(options)).save(run / MODEL)
    write_history(run, result.history)
    metrics["seconds"] = time.perf_counter() - started
    write_json(run / METRICS, metrics)
    paths = tuple(dataset.index.paths[i] for i in dataset.rows("val"))
    return FinetuneResult(run, plan, metrics, tuple(result.history), paths, val.values)


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


def _network(options: FinetuneOptions, num_classes: int) -> Network:
    network = create_network(
        options.backbone,
        weights=options.weights,
        num_classes=num_classes,
        image_size=options.image_size,
    )
    preprocessing = network.preprocessing.changed(
        image_size=options.image_size, resize=options.resize
    )
    return network.with_preprocessing(preprocessing)


def _train(work: _Work, trainable: Sequence[Stage]) -> Fit:
    options = work.options
    setup = _setup(work, trainable)
    phase = options.unfreeze if options.strategy is Strategy.PARTIAL else str(options.strategy)
    result = fit(
        setup, epochs=options.epochs, patience=options.patience, phase=phase, reporter=work.reporter
    )
    setup.accelerator.unwrap_model(setup.module, keep_fp32_wrapper=False)
    return result


def _setup(work: _Work, trainable: Sequence[Stage]) -> TrainingSetup:
    options, module, device = work.options, work.network.module, work.how.device
    labels = work.dataset.index.labels[work.dataset.rows("train")]
    # BatchNorm cannot train on one picture: when just one is left over, another one each epoch
    # sits that epoch out.
    per_epoch = len(labels) - (len(labels) % options.batch_size == 1 and len(labels) > 1)
    steps = options.epochs * -(-per_epoch // options.batch_size)
    optimizer = create_optimizer(
        module,
        trainable,
        learning_rate=options.learning_rate,
        backbone_learning_rate=options.backbone_rate,
        weight_decay=options.weight_decay,
    )
    scheduler = LambdaLR(optimizer, lambda step: warmup_cosine(step, steps))
    accelerator = create_accelerator(device, work.how.precision)
    module, optimizer, scheduler = accelerator.prepare(module, optimizer, scheduler)
    weights = class_weights(options.class_weights, labels)
    return TrainingSetup(
        module=module,
        accelerator=accelerator,
        optimizer=optimizer,
        scheduler=scheduler,
        criterion=create_criterion(weights, options.label_smoothing, device),
        batches=lambda epoch: _batches(work, per_epoch, epoch),
        images_per_epoch=per_epoch,
        validate=lambda: _loss_and_accuracy(work),
    )


def _batches(work: _Work, per_epoch: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    options, index, how = work.options, work.dataset.index, work.how
    shuffled = np.random.default_rng((options.seed, epoch)).permutation(work.dataset.rows("train"))
    labels = torch.from_numpy(index.labels)
    for batch in iterate_batches(
        index.files,
        train_transform(work.network.preprocessing, options.augment),
        batch_size=how.batch_size,
        workers=how.workers,
        order=shuffled[:per_epoch],
        seed=(options.seed, epoch),
    ):
        _require_readable(work.dataset, batch.failures)
        pixels = normalize(batch.pixels.to(how.device), work.network.preprocessing)
        yield pixels, labels[batch.rows].to(how.device)


def _loss_and_accuracy(work: _Work) -> tuple[float, float]:
    labels = work.dataset.index.labels[work.dataset.rows("val")]
    values = _validation(work).values
    return log_loss(labels, values), top_k_accuracy(labels, values)


def _validation(work: _Work) -> Collected:
    rows, everything = work.dataset.rows("val"), work.dataset.index.files
    files = [everything[i] for i in rows]
    with work.reporter.progress("validating", len(files)) as progress:
        parts = probabilities(work.network, files, work.how)
        val = collect(parts, len(files), work.network.num_classes, progress.advance)
    _require_readable(work.dataset, [(int(rows[row]), why) for row, why in val.reasons.items()])
    return val


def _require_readable(dataset: Dataset, failures: Iterable[tuple[int, str]]) -> None:
    # All were read before training: what fails now has changed under our hands.
    told = [f"{dataset.index.paths[row]} ({why})" for row, why in failures]
    if told:
        raise DataError(
            f"{dataset.index.root}: images changed during the run: {name_some(told)}; "
            "leave the dataset alone while it trains, and run again"
        )


def _metrics(dataset: Dataset, network: Network, result: Fit, val: Collected) -> dict[str, Any]:
    labels = dataset.index.labels
    val_labels, train_labels = labels[dataset.rows("val")], labels[dataset.rows("train")]
    best = result.history[result.best]
    parameters = list(network.module.parameters())
    return {
        "val": summarize(val_labels, val.values, dataset.index.class_names),
        "train": {
            "accuracy": best.train_accuracy,
            "loss": best.train_loss,
            "n": len(train_labels),
            "epoch": best.epoch,
        },
        "majority_baseline": majority_baseline(val_labels, train_labels),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "total_parameters": sum(p.numel() for p in parameters),
        "images_per_second": result.images / result.seconds,
    }


def _provenance(options: FinetuneOptions) -> dict[str, Any]:
    return {
        "backbone": options.backbone,
        "weights": options.weights,
        "strategy": str(options.strategy),
        "unfreeze": options.unfreeze,
    }
