"""The strategy `features`: a classifier on what the backbone puts out, in one pass over it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transferkit.bundle import FeatureHead
from transferkit.classifiers import Classifier
from transferkit.classifiers.fitting import (
    Fitted,
    fit_classifier,
    grid_size,
    require_enough,
    require_weights_possible,
)
from transferkit.data.dataset import Dataset
from transferkit.data.views import PLAIN
from transferkit.errors import OptionError
from transferkit.frozen import FrozenRows
from transferkit.inference import Pass
from transferkit.metrics import majority_baseline, summarize, wilson_interval
from transferkit.models.features import FeatureExtractor
from transferkit.recipes.caching import settle_feature_cache
from transferkit.recipes.compute import create_pass
from transferkit.recipes.features import create_extractor
from transferkit.recipes.finetune_options import TRAINED_BY_GRADIENT, FinetuneOptions
from transferkit.recipes.frozen_layers import frozen_features, plain_views
from transferkit.recipes.job import FinetuneResult, Job
from transferkit.recipes.plan import describe_copies, describe_weights
from transferkit.recipes.report import leave_report
from transferkit.recipes.run_files import resolved_options, write_inputs, write_model
from transferkit.recipes.run_folder import claimed
from transferkit.recipes.run_record import write_plan
from transferkit.recipes.stopwatch import FROZEN, TRAINING, Stopwatch
from transferkit.recipes.work import require_all_readable
from transferkit.reporting import Plan, Reporter, StageRow
from transferkit.training.loss import ClassWeights
from transferkit.training.proof import digests, require_unchanged


@dataclass(frozen=True, eq=False)
class FeatureFit:
    """A classifier on features, and how good it is.

    Attributes:
        head: The classifier and its layers.
        metrics: The content of metrics.json.
        val_probabilities: (N, C) float32 of the validation images.
    """

    head: FeatureHead
    metrics: dict[str, Any]
    val_probabilities: NDArray[np.float32]


def finetune_features(job: Job) -> FinetuneResult:
    """Fit a classifier as the options say; raises what `finetune` raises."""
    options, dataset, run, reporter = job.options, job.dataset, job.run, job.reporter
    extractor = create_extractor(options, backbone=options.backbone, weights=options.weights)
    plan = create_features_plan(options, dataset, extractor)
    if run is None:
        return FinetuneResult(None, plan, {})
    reporter.plan(plan)
    network = extractor.network
    how = create_pass(options, network, reporter)
    with claimed(run, options):
        taken = {"layer": extractor.layers, "pool": extractor.pool}
        resolved = resolved_options(run, options, network, how) | taken
        applied = {k: v for k, v in resolved.items() if k not in TRAINED_BY_GRADIENT}
        write_inputs(job, network, applied)
        write_plan(run, plan)
        result = fit_on_features(options, dataset, extractor, how, reporter, job.watch)
        fitted = {"classifier": options.classifier}
        bundle = write_model(
            job,
            network,
            result.metrics,
            probabilities=result.val_probabilities,
            trained=fitted,
            head=result.head,
        )
        leave_report(job, bundle, how, result.metrics)
    paths, values = dataset.paths("val"), result.val_probabilities
    return FinetuneResult(run, plan, result.metrics, (), paths, values)


def create_features_plan(
    options: FinetuneOptions, dataset: Dataset, extractor: FeatureExtractor
) -> Plan:
    """Everything that is decided before the first image is computed.

    Raises:
        DataError: When a class has too few images for cross-validation.
        OptionError: When the classifier cannot weight classes, or features are no vectors.
    """
    network, kind = extractor.network, _kind(options)
    require_weights_possible(kind, balanced=options.class_weights is ClassWeights.BALANCED)
    require_enough(dataset.index.labels[dataset.rows("train")], _copies(dataset))
    if len(extractor.shape) > 1:
        raise OptionError("--pool none gives maps, and a classifier takes vectors; use flatten")
    (width,) = extractor.shape
    sizes = {name: p.numel() for name, p in network.module.named_parameters()}
    stages = tuple(
        StageRow(
            name=stage.name,
            modules=stage.modules,
            parameters=sum(sizes[name] for name in stage.parameters),
            trainable=0,
            learning_rate=None,
            first_epoch=None,
        )
        for stage in network.stages
        if stage.parameters
    )
    settings = grid_size(kind, len(dataset.rows("train")), width)
    layers = ", ".join(extractor.layers)
    return Plan(
        settings=(
            ("data", str(options.data)),
            ("backbone", network.name),
            ("weights", describe_weights(options)),
            ("strategy", "features: the backbone stays as it is"),
            ("pictures", network.preprocessing.describe()),
            ("features", f"{width} of {layers}, pooled by {extractor.pool}"),
            ("classifier", f"{kind}, the best of {settings} settings by cross-validation"),
            ("training", f"class weights {options.class_weights}, seed {options.seed}"),
            *describe_copies(dataset),
        ),
        classes=dataset.counts(),
        left_out=dataset.index.left_out,
        stages=stages,
        phases=(),
    )


def fit_on_features(
    options: FinetuneOptions,
    dataset: Dataset,
    extractor: FeatureExtractor,
    how: Pass,
    reporter: Reporter,
    watch: Stopwatch,
) -> FeatureFit:
    """Compute the features of the training and validation images once, fit, and measure.

    Raises:
        DataError: When an image can no longer be read, or a class has too few for
            cross-validation.
        OptionError: When the classifier cannot weight classes.
        TransferKitError: When a tensor of the backbone changed.
    """
    module = extractor.network.module
    names = list(module.state_dict())
    before = digests(module, names)
    labels, index = dataset.index.labels, dataset.index
    with watch.part(FROZEN):
        train, val = _features(options, dataset, extractor, how, reporter)
    require_unchanged(before, digests(module, names))
    train_labels, val_labels = labels[dataset.rows("train")], labels[dataset.rows("val")]
    kind = _kind(options)
    with (
        watch.part(TRAINING),
        reporter.progress(f"cross-validating {kind}", len(train_labels)) as progress,
    ):
        fitted = fit_classifier(
            kind,
            train,
            train_labels,
            seed=options.seed,
            balanced=options.class_weights is ClassWeights.BALANCED,
            groups=_copies(dataset),
            report=progress.advance,
        )
    reporter.notice(_told(kind, fitted))
    head = FeatureHead(fitted.estimator, extractor.layers, extractor.pool)
    count = len(index.class_names)
    probabilities = head.predict_proba(val, count).astype(np.float32)
    known = head.predict_proba(train, count).argmax(axis=1) == train_labels
    metrics = {
        "val": summarize(val_labels, probabilities, index.class_names),
        "train": {"accuracy": float(known.mean()), "n": len(train_labels)},
        "classifier": {
            "kind": kind,
            "settings": dict(fitted.settings),
            "features": extractor.shape[0],
            "cross_validation": _cross_validation(fitted),
        },
        "majority_baseline": majority_baseline(val_labels, train_labels),
        "images_per_second": (len(train) + len(val)) / watch.seconds(FROZEN),
        "trainable_parameters": 0,
        "total_parameters": sum(p.numel() for p in module.parameters()),
        "frozen": {"tensors": len(names), "unchanged": True},
    }
    return FeatureFit(head, metrics, probabilities)


def _kind(options: FinetuneOptions) -> Classifier:
    return options.classifier or Classifier.SVM


def _features(
    options: FinetuneOptions,
    dataset: Dataset,
    extractor: FeatureExtractor,
    how: Pass,
    reporter: Reporter,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, D) of the training and of the validation images."""
    layers = frozen_features(extractor, how)
    rows = FrozenRows(
        layers,
        plain_views(dataset, extractor.network, how),
        cache=settle_feature_cache(options, dataset, layers).cache,
        limit=int(options.cache_limit * 10**9),
        check=lambda failures: require_all_readable(dataset, failures),
        reporter=reporter,
        pieces=how.pieces,
    )
    train, val = dataset.rows("train"), dataset.rows("val")
    rows.complete(PLAIN, np.concatenate([train, val]))
    taken = (
        torch.cat([values.cpu() for _, values in rows.numbered(PLAIN, part)])
        for part in (train, val)
    )
    first, second = (part.numpy() for part in taken)
    return first, second


def _copies(dataset: Dataset) -> NDArray[np.int64] | None:
    """The same number for training images that are copies of one picture; None where none are."""
    copies = dataset.copies[dataset.rows("train")]
    return copies if len(np.unique(copies)) < len(copies) else None


def _cross_validation(fitted: Fitted) -> dict[str, Any]:
    return {
        "accuracy": fitted.correct / fitted.searched,
        "accuracy_interval": wilson_interval(fitted.correct, fitted.searched),
        "n": fitted.searched,
        "folds": fitted.folds,
        "tried": [{**settings, "accuracy": accuracy} for settings, accuracy in fitted.tried],
    }


def _told(kind: Classifier, fitted: Fitted) -> str:
    interval = wilson_interval(fitted.correct, fitted.searched)
    return (
        f"{kind} with {_settings(fitted.settings)}, the best of {len(fitted.tried)} settings: "
        f"{fitted.folds}-fold accuracy {fitted.correct / fitted.searched:.3f} "
        f"({interval['low']:.3f} to {interval['high']:.3f}) of {fitted.searched} training images"
    )


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in settings.items()
    )
