"""Audit a dataset: what is wrong in a folder of images, before anything is trained on it."""

from collections.abc import Iterator

from transferkit.data.dataset import Dataset
from transferkit.data.scan import name_of
from transferkit.options.audit import AuditOptions
from transferkit.recipes.auditing.audit_result import Audit, Found
from transferkit.recipes.auditing.compute_features import compute_features
from transferkit.recipes.auditing.find_copies import find_copies, find_unreadable
from transferkit.recipes.auditing.find_label_errors import (
    find_confused_classes,
    find_label_errors,
    find_small_classes,
    judge_labels,
)
from transferkit.recipes.auditing.find_outliers import find_outliers
from transferkit.recipes.auditing.find_poor_images import find_poor_images
from transferkit.recipes.auditing.find_shortcuts import find_shortcuts
from transferkit.recipes.auditing.read_images import measure_dataset, read_images
from transferkit.recipes.shared.backbone import create_extractor
from transferkit.reporter import SILENT, Reporter
from transferkit.run.folder import Contents, chosen_folder, claimed
from transferkit.tables.audit_findings import NAME, write_findings

AUDIT = Contents(NAME, (NAME,), resumable=False)


def audit(options: AuditOptions, reporter: Reporter = SILENT) -> Audit:
    """Look for what is wrong in a dataset, and write audit.csv; the dataset is not changed.

    Raises:
        DataError: When the dataset cannot be used.
        UnknownNameError: When there is no such backbone or layer.
        WeightsError: When the backbone's weights are not available or do not fit.
        OptionError: When an option cannot work with this backbone or machine.
        OutputError: When the folder exists or cannot be written.
        EngineError: When an engine that was asked for by name cannot compute the features.
    """
    with chosen_folder(options, f"{name_of(options.data)}-audit", AUDIT) as folder:
        dataset = read_images(options, reporter)
        found = tuple(_look(options, dataset, reporter))
        findings = tuple(finding for step in found for finding in step.findings)
        with claimed(folder, options, AUDIT):
            write_findings(folder / NAME, findings)
    return Audit(
        folder=folder,
        images=len(dataset.index),
        class_names=dataset.index.class_names,
        findings=findings,
        rules={kind: rule for step in found for kind, rule in step.rules.items()},
        left_out=dataset.index.left_out,
    )


def _look(options: AuditOptions, dataset: Dataset, reporter: Reporter) -> Iterator[Found]:
    """Yield what each step finds."""
    paths = dataset.index.paths
    extractor = create_extractor(
        options, reporter, backbone=options.backbone, weights=options.weights
    )
    measures = measure_dataset(options, dataset, reporter)
    features = compute_features(options, dataset, extractor, reporter)
    probabilities = judge_labels(dataset, features, options.seed, reporter)
    yield find_unreadable(dataset)
    yield find_copies(dataset)
    yield find_label_errors(dataset, probabilities)
    yield find_outliers(paths, features)
    yield find_poor_images(paths, measures)
    yield find_confused_classes(dataset, probabilities)
    yield find_small_classes(dataset)
    yield find_shortcuts(dataset, measures, options.seed, reporter)
