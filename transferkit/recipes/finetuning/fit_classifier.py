"""The strategy `features`: fit a scikit-learn classifier on features of a frozen backbone."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.bundle import FeatureHead
from transferkit.calibration import Calibration
from transferkit.classifiers import Classifier
from transferkit.classifiers.fitting import (
    Fitted,
    fit_classifier,
    grid_size,
    require_enough,
    require_weights_possible,
)
from transferkit.data.bad_images import require_all_readable
from transferkit.data.dataset import Dataset
from transferkit.data.views import PLAIN
from transferkit.errors import OptionError
from transferkit.frozen_layers import FrozenRows, frozen_features, plain_views
from transferkit.intervals import wilson_interval
from transferkit.metrics import majority_baseline, summarize
from transferkit.models.network import Network
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes.finetuning.calibrate import (
    calibrate_on_validation,
    describe_calibration,
)
from transferkit.recipes.finetuning.measure_usual import usual_by_features
from transferkit.recipes.finetuning.outputs import (
    claimed_by_first,
    leave_report,
    write_beginning,
    write_model,
)
from transferkit.recipes.finetuning.plan import (
    describe_dataset,
    describe_frozen,
    describe_weights,
)
from transferkit.recipes.finetuning.resolve_settings import resolve_features
from transferkit.recipes.finetuning.run_in_progress import FeaturesRun, FinetuneResult
from transferkit.recipes.finetuning.settings import FeatureSettings
from transferkit.recipes.shared.backbone import create_extractor
from transferkit.recipes.shared.compute_settings import resolve_compute, with_fitting_batches
from transferkit.reporter import Plan, Reporter, StageRow
from transferkit.run.stopwatch import FROZEN, TRAINING
from transferkit.training.frozen_proof import digests, require_unchanged
from transferkit.training.loss import ClassWeights


def prepare_features(
    options: FinetuneOptions, dataset: Dataset, reporter: Reporter
) -> tuple[Network, FeatureSettings]:
    """Build the extractor, and resolve the settings.

    Raises:
        DataError: When a class has too few images for cross-validation.
        OptionError: When the classifier cannot weight classes, or features are not vectors.
        UnknownNameError: When there is no such backbone or layer.
        WeightsError: When the backbone's weights are not available or do not fit.
    """
    is_balanced = options.class_weights is ClassWeights.BALANCED
    require_weights_possible(_classifier(options), balanced=is_balanced)
    require_enough(dataset.index.labels[dataset.rows("train")], _copies(dataset))
    extractor = create_extractor(
        options, reporter, backbone=options.backbone, weights=options.weights
    )
    if len(extractor.shape) > 1:
        raise OptionError(
            "--pool none: gives feature maps, expected vectors for a classifier; use --pool flatten"
        )
    compute = resolve_compute(
        options, extractor.network, reporter, engine=options.engine, images=len(dataset.index)
    )
    compute = with_fitting_batches(options, extractor.network, compute)
    return extractor.network, resolve_features(options, dataset, extractor, compute)


def fit_on_features(run: FeaturesRun) -> FinetuneResult:
    """Fit a classifier as the run's settings say; raises what `finetune` raises."""
    plan = create_features_plan(run)
    if run.options.dry_run:
        return FinetuneResult(None, plan, {})
    run.reporter.plan(plan)
    with claimed_by_first(run):
        if run.processes.is_first:
            write_beginning(run, plan)
        train, val = _compute_features(run)
        if not run.processes.is_first:
            return FinetuneResult(run.folder, plan, {})
        fitted = _fit(run, train)
        extractor = run.settings.extractor
        head = FeatureHead(fitted.estimator, extractor.layers, extractor.pool)
        before = head.predict_proba(val, _class_count(run)).astype(np.float32)
        calibration = calibrate_on_validation(run, before)
        head = replace(head, temperature=calibration.temperature)
        metrics = _metrics(run, head, fitted, train, before, calibration)
        probabilities = calibration.probabilities
        trained = {"classifier": run.options.classifier}
        bundle = write_model(
            run,
            metrics,
            probabilities=probabilities,
            trained=trained,
            usual=usual_by_features(val),
            head=head,
        )
        leave_report(run, bundle, metrics)
    return FinetuneResult(run.folder, plan, metrics, (), run.dataset.paths("val"), probabilities)


def create_features_plan(run: FeaturesRun) -> Plan:
    """Return everything that is decided before the first features are computed."""
    options, dataset, network = run.options, run.dataset, run.network
    extractor = run.settings.extractor
    (width,) = extractor.shape
    kind = _classifier(options)
    settings = grid_size(kind, len(dataset.rows("train")), width)
    layers = ", ".join(extractor.layers)
    return Plan(
        settings=(
            ("data", str(options.data)),
            ("backbone", network.name),
            ("weights", describe_weights(options)),
            ("strategy", "features: the backbone stays unchanged"),
            ("input", network.preprocessing.describe()),
            ("features", f"{width} of {layers}, pooled by {extractor.pool}"),
            ("classifier", f"{kind}, the best of {settings} settings by cross-validation"),
            ("engine", describe_frozen(run.settings.engine)),
            ("training", f"class weights {options.class_weights}, seed {options.seed}"),
            *describe_dataset(dataset),
        ),
        classes=dataset.counts(),
        left_out=dataset.index.left_out,
        stages=_frozen_stages(network),
        phases=(),
    )


def _frozen_stages(network: Network) -> tuple[StageRow, ...]:
    sizes = {name: p.numel() for name, p in network.module.named_parameters()}
    return tuple(
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


def _compute_features(run: FeaturesRun) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (N, D) features of the training and of the validation images.

    Raises:
        DataError: When an image can no longer be read.
        TransferKitError: When a tensor of the backbone changed.
    """
    dataset, module = run.dataset, run.network.module
    rows = FrozenRows(
        frozen_features(run.settings.extractor, replace(run.compute, engine=run.settings.engine)),
        plain_views(dataset, run.network, run.compute),
        cache=run.settings.cache.place,
        limit=run.settings.cache_limit,
        check=lambda failures: require_all_readable(dataset, failures),
        reporter=run.reporter,
        processes=run.processes,
    )
    before = digests(module, list(module.state_dict()))
    parts = [dataset.rows("train"), dataset.rows("val")]
    with run.stopwatch.part(FROZEN):
        rows.complete(PLAIN, np.concatenate(parts))
        train, val = (_gathered(run, rows, part) for part in parts)
    require_unchanged(before, digests(module, list(module.state_dict())))
    return train, val


def _gathered(run: FeaturesRun, rows: FrozenRows, order: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the features of the images at some positions, (N, D)."""
    own = [np.empty((0, *run.settings.extractor.shape), dtype=np.float32)]
    own += [values.cpu().numpy() for _, values in rows.numbered(PLAIN, run.processes.share(order))]
    return run.processes.gather_rows(np.concatenate(own))


def _fit(run: FeaturesRun, features: NDArray[np.float32]) -> Fitted:
    """Choose the classifier's settings by cross-validation, and fit it on all training images."""
    dataset, kind = run.dataset, _classifier(run.options)
    labels = dataset.index.labels[dataset.rows("train")]
    with (
        run.stopwatch.part(TRAINING),
        run.reporter.progress(f"cross-validating {kind}", len(labels)) as progress,
    ):
        fitted = fit_classifier(
            kind,
            features,
            labels,
            seed=run.options.seed,
            balanced=run.options.class_weights is ClassWeights.BALANCED,
            copies=_copies(dataset),
            groups=dataset.together[dataset.rows("train")] if dataset.groups else None,
            report=progress.advance,
        )
    run.reporter.notice(_describe_fit(kind, fitted))
    return fitted


def _metrics(
    run: FeaturesRun,
    head: FeatureHead,
    fitted: Fitted,
    train: NDArray[np.float32],
    before: NDArray[np.float32],
    calibration: Calibration,
) -> dict[str, Any]:
    """Return the content of metrics.json.

    Args:
        run: The run.
        head: The fitted classifier and its layers.
        fitted: The classifier's settings and cross-validation.
        train: (N, D) features of the training images.
        before: (M, C) of the validation images, before the calibration.
        calibration: The calibration.
    """
    dataset, module = run.dataset, run.network.module
    labels = dataset.index.labels
    train_labels, val_labels = labels[dataset.rows("train")], labels[dataset.rows("val")]
    correct = head.predict_proba(train, _class_count(run)).argmax(axis=1) == train_labels
    return {
        "val": summarize(val_labels, calibration.probabilities, dataset.index.class_names),
        "calibration": describe_calibration(calibration, val_labels, before),
        "train": {"accuracy": float(correct.mean()), "n": len(train_labels)},
        "classifier": {
            "kind": _classifier(run.options),
            "settings": dict(fitted.settings),
            "features": run.settings.extractor.shape[0],
            "cross_validation": _cross_validation(fitted),
        },
        "majority_baseline": majority_baseline(val_labels, train_labels),
        "images_per_second": (len(train_labels) + len(val_labels)) / run.stopwatch.seconds(FROZEN),
        "trainable_parameters": 0,
        "total_parameters": sum(p.numel() for p in module.parameters()),
        "frozen": {"tensors": len(module.state_dict()), "unchanged": True},
    }


def _classifier(options: FinetuneOptions) -> Classifier:
    assert options.classifier is not None  # the options fill it in for this strategy
    return options.classifier


def _class_count(run: FeaturesRun) -> int:
    return len(run.dataset.index.class_names)


def _copies(dataset: Dataset) -> NDArray[np.int64] | None:
    """Return numbers of the training images, equal for copies of one image; None without copies."""
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


def _describe_fit(kind: Classifier, fitted: Fitted) -> str:
    interval = wilson_interval(fitted.correct, fitted.searched)
    settings = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in fitted.settings.items()
    )
    return (
        f"{kind} with {settings}, the best of {len(fitted.tried)} settings: "
        f"{fitted.folds}-fold accuracy {fitted.correct / fitted.searched:.3f} "
        f"({interval['low']:.3f} to {interval['high']:.3f}) of {fitted.searched} training images"
    )
