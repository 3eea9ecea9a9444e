"""Train a classifier on a folder of images and leave a run that explains itself."""

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from transferkit.bundle import ModelBundle
from transferkit.data.check import check_images
from transferkit.data.index import ImageIndex, scan
from transferkit.data.loader import iterate_batches
from transferkit.data.split import Split, assign_splits
from transferkit.data.transforms import normalize, train_transform
from transferkit.devices import create_accelerator, default_workers
from transferkit.errors import DataError, OutputError, name_some
from transferkit.files import write_json
from transferkit.inference import Collected, Pass, collect, probabilities
from transferkit.metrics import log_loss, majority_baseline, summarize, top_k_accuracy
from transferkit.models.backbones import NO_WEIGHTS, create_network
from transferkit.models.freezing import Strategy, freeze, trainable_stages
from transferkit.models.network import Network
from transferkit.models.stages import HEAD, Stage
from transferkit.models.weights import tensors_digest
from transferkit.recipes.compute import create_pass
from transferkit.recipes.options import FinetuneOptions
from transferkit.reporting import SILENT, EpochRow, Plan, Reporter, StageRow
from transferkit.tables import write_csv
from transferkit.training.loop import Fit, TrainingSetup, fit
from transferkit.training.loss import class_weights, create_criterion
from transferkit.training.optimizer import create_optimizer
from transferkit.training.schedule import warmup_cosine

RUN_FILES = ("model", "metrics.json", "history.csv", "split.csv", "options.json")


@dataclass(frozen=True)
class Dataset:
    """What is trained and validated on.

    Attributes:
        index: The readable images.
        sha256: N digests of the files.
        splits: N splits.
    """

    index: ImageIndex
    sha256: tuple[str, ...]
    splits: tuple[Split, ...]

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Positions in the index of a split's images."""
        return np.array([i for i, name in enumerate(self.splits) if name == split], dtype=np.int64)

    def digest(self) -> str:
        """SHA-256 of paths, labels, contents and splits: the same data, the same digest."""
        rows = zip(self.index.paths, self.index.labels, self.sha256, self.splits, strict=True)
        text = "\n".join(f"{p}\t{self.index.class_names[i]}\t{s}\t{to}" for p, i, s, to in rows)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


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


def finetune(options: FinetuneOptions, reporter: Reporter = SILENT) -> FinetuneResult:
    """Train as the options say and write the run's folder.

    Raises:
        DataError: When the dataset cannot be used.
        WeightsError: When the backbone's weights cannot be had or do not fit.
        UnknownNameError: When there is no such backbone.
        OptionError: When an option cannot work with this backbone or machine.
        OutputError: When the run's folder is there already or cannot be written.
    """
    started = time.perf_counter()
    run = None if options.dry_run else _claim_run(options)
    dataset = _dataset(options, reporter)
    torch.manual_seed(options.seed)
    network = _network(options, len(dataset.index.class_names))
    trainable = trainable_stages(
        network.stages, strategy=options.strategy, unfreeze=options.unfreeze
    )
    plan = _plan(options, dataset, network, trainable)
    reporter.plan(plan)
    if run is None:
        return FinetuneResult(None, plan, {})
    how = create_pass(options, network)
    _write_before_training(run, options, dataset, network)
    result = _train(options, dataset, network, trainable, how, reporter)
    val = _validation(network, dataset, how)
    metrics = _metrics(dataset, network, result, val)
    ModelBundle(network, dataset.index.class_names, _provenance(options, network)).save(run / "model")
    _write_history(run, result)
    metrics["seconds"] = time.perf_counter() - started
    write_json(run / "metrics.json", metrics)
    paths = tuple(dataset.index.paths[i] for i in dataset.rows("val"))
    return FinetuneResult(run, plan, metrics, tuple(result.history), paths, val.values)


def _claim_run(options: FinetuneOptions) -> Path:
    """The run's folder, made and empty of an earlier run."""
    run = options.output or _unused_name(options)
    if run.exists() and not run.is_dir():
        raise OutputError(f"{run}: is a file, expected a folder for the run; name another --output")
    if run.is_dir() and any(run.iterdir()) and not options.overwrite:
        raise OutputError(
            f"{run}: is there already and not empty; name another --output, or replace the run in "
            "it with --overwrite"
        )
    try:
        run.mkdir(parents=True, exist_ok=True)
        for name in RUN_FILES:
            old = run / name
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {run}: {error.strerror}; name another --output") from error
    return run


def _unused_name(options: FinetuneOptions) -> Path:
    backbone = options.backbone.rsplit("/", 1)[-1].replace(":", "-")
    stem = f"{options.data.resolve().name}-{backbone}-{options.strategy}"
    count, run = 1, Path("runs", stem)
    while run.exists():
        count += 1
        run = Path("runs", f"{stem}-{count}")
    return run


def _dataset(options: FinetuneOptions, reporter: Reporter) -> Dataset:
    index = scan(options.data)
    if options.val:
        index = index.with_validation(scan(options.val))
    workers = options.workers or default_workers()
    checked = check_images(index, workers=workers, reporter=reporter)
    splits = assign_splits(checked.index, val_fraction=options.val_fraction, seed=options.seed)
    return Dataset(checked.index, checked.sha256, splits)


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


def _plan(
    options: FinetuneOptions, dataset: Dataset, network: Network, trainable: tuple[Stage, ...]
) -> Plan:
    sizes = {name: p.numel() for name, p in network.module.named_parameters()}
    rates = {s: options.learning_rate if s.name == HEAD else options.backbone_rate for s in trainable}
    stages = []
    for stage in network.stages:
        count = sum(sizes[name] for name in stage.parameters)
        rate = rates.get(stage)
        stages.append(StageRow(stage.name, stage.modules, count, count if rate else 0, rate))
    counts = {
        name: tuple(
            sum(1 for i in dataset.rows(split) if dataset.index.labels[i] == label)
            for split in ("train", "val", "test")
        )
        for label, name in enumerate(dataset.index.class_names)
    }
    left_out = tuple((item.path, item.reason) for item in dataset.index.left_out)
    return Plan(_settings(options, network), counts, left_out, tuple(stages))  # type: ignore[arg-type]


def _settings(options: FinetuneOptions, network: Network) -> tuple[tuple[str, str], ...]:
    weights = options.weights
    if weights == NO_WEIGHTS:
        weights = "none: random weights, this trains from scratch and transfers nothing"
        if options.strategy is Strategy.PARTIAL:
            weights += "; the frozen part stays random, --strategy full trains it"
    what = options.unfreeze if options.strategy is Strategy.PARTIAL else "everything"
    return (
        ("data", str(options.data)),
        ("backbone", network.name),
        ("weights", weights),
        ("strategy", f"{options.strategy} ({what})"),
        ("pictures", network.preprocessing.describe()),
        ("augmentation", str(options.augment)),
        ("training", f"{options.epochs} epochs, batches of {options.batch_size}, "
                     f"patience {options.patience}, seed {options.seed}"),
    )  # fmt: skip


def _train(
    options: FinetuneOptions,
    dataset: Dataset,
    network: Network,
    trainable: tuple[Stage, ...],
    how: Pass,
    reporter: Reporter,
) -> Fit:
    freeze(network.module, {name for stage in trainable for name in stage.parameters})
    optimizer = create_optimizer(
        network.module,
        trainable,
        learning_rate=options.learning_rate,
        backbone_learning_rate=options.backbone_rate,
        weight_decay=options.weight_decay,
    )
    rows = dataset.rows("train")
    # BatchNorm cannot train on one picture: when just one is left over, another one each epoch
    # sits that epoch out.
    per_epoch = len(rows) - (len(rows) % options.batch_size == 1 and len(rows) > 1)
    steps = options.epochs * -(-per_epoch // options.batch_size)
    scheduler = LambdaLR(optimizer, lambda step: warmup_cosine(step, steps))
    accelerator = create_accelerator(how.device, how.precision)
    module, optimizer, scheduler = accelerator.prepare(network.module, optimizer, scheduler)
    weights = class_weights(options.class_weights, dataset.index.labels[rows])

    def validate() -> tuple[float, float]:
        val = _validation(network, dataset, how)
        labels = dataset.index.labels[dataset.rows("val")]
        return log_loss(labels, val.values), top_k_accuracy(labels, val.values)

    setup = TrainingSetup(
        module=module,
        accelerator=accelerator,
        optimizer=optimizer,
        scheduler=scheduler,
        criterion=create_criterion(weights, options.label_smoothing, how.device),
        batches=lambda epoch: _batches(options, dataset, network, how, rows, per_epoch, epoch),
        images_per_epoch=per_epoch,
        validate=validate,
    )
    phase = options.unfreeze if options.strategy is Strategy.PARTIAL else str(options.strategy)
    result = fit(
        setup, epochs=options.epochs, patience=options.patience, phase=phase, reporter=reporter
    )
    accelerator.unwrap_model(module, keep_fp32_wrapper=False)
    return result


def _batches(
    options: FinetuneOptions,
    dataset: Dataset,
    network: Network,
    how: Pass,
    rows: NDArray[np.int64],
    per_epoch: int,
    epoch: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    order = np.random.default_rng((options.seed, epoch)).permutation(rows)[:per_epoch]
    labels = torch.from_numpy(dataset.index.labels)
    for batch in iterate_batches(
        dataset.index.files,
        train_transform(network.preprocessing, options.augment),
        batch_size=how.batch_size,
        workers=how.workers,
        order=order,
        seed=(options.seed, epoch),
    ):
        _require_readable(dataset, batch.failures)
        pixels = normalize(batch.pixels.to(how.device), network.preprocessing)
        yield pixels, labels[batch.rows].to(how.device)


def _validation(network: Network, dataset: Dataset, how: Pass) -> Collected:
    rows = dataset.rows("val")
    files = [dataset.index.files[i] for i in rows]
    parts = probabilities(network, files, how)
    val = collect(parts, len(files), network.num_classes, lambda _: None)
    _require_readable(dataset, [(int(rows[row]), why) for row, why in val.reasons.items()])
    return val


def _require_readable(dataset: Dataset, failures: Any) -> None:
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


def _provenance(options: FinetuneOptions, network: Network) -> dict[str, Any]:
    return {
        "backbone": options.backbone,
        "weights": options.weights,
        "strategy": str(options.strategy),
        "unfreeze": options.unfreeze,
        "source_tag": network.config.get("tag"),
    }


def _write_before_training(
    run: Path, options: FinetuneOptions, dataset: Dataset, network: Network
) -> None:
    """Write what is known already: that also shows early whether the place can be written."""
    packages = ("transferkit", "torch", "torchvision", "timm", "accelerate", "pillow", "numpy")
    body = {k: v for k, v in network.module.state_dict().items() if not _in_head(k, network)}
    given = {f.name: _json_value(getattr(options, f.name)) for f in fields(options)}
    given["backbone_learning_rate"] = options.backbone_rate
    write_json(
        run / "options.json",
        {
            **given,
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in packages},
            "weights_sha256": tensors_digest(body),
            "data_sha256": dataset.digest(),
        },
    )
    columns = zip(
        dataset.index.paths, dataset.index.labels, dataset.splits, dataset.sha256, strict=True
    )
    rows = ((p, dataset.index.class_names[i], to, sha, sha[:16]) for p, i, to, sha in columns)
    write_csv(run / "split.csv", ("path", "label", "split", "sha256", "group"), rows)


def _in_head(name: str, network: Network) -> bool:
    return name.startswith(tuple(f"{head}." for head in network.heads))


def _json_value(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _write_history(run: Path, result: Fit) -> None:
    columns = [entry.name for entry in fields(EpochRow)]
    write_csv(run / "history.csv", columns, (astuple(row) for row in result.history))
