"""Audit a dataset: what is wrong in a folder of images, before anything is trained on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transferkit.data.dataset import Dataset
from transferkit.data.decisions import read_decisions
from transferkit.data.image_measures import ImageMeasures
from transferkit.data.scan import name_of
from transferkit.devices import release_freed_memory
from transferkit.options.audit import AuditOptions
from transferkit.recipes.auditing.audit_result import Audit, Found
from transferkit.recipes.auditing.compute_features import compute_features
from transferkit.recipes.auditing.draw_thumbnails import draw_thumbnails
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
from transferkit.recipes.auditing.find_typical import find_typical
from transferkit.recipes.auditing.read_images import measure_dataset, read_images
from transferkit.recipes.shared.backbone import create_extractor
from transferkit.recipes.shared.inputs import reading_threads
from transferkit.report.audit_page import AuditReport, audit_page, images_to_show
from transferkit.report.page import write_page
from transferkit.reporter import SILENT, Reporter
from transferkit.run.folder import Contents, chosen_folder, claimed
from transferkit.tables.audit_findings import NAME, PAGE, Finding, Kind, write_findings

AUDIT = Contents(NAME, (NAME, PAGE), resumable=False)


@dataclass(frozen=True, eq=False)
class _Evidence:
    """What the steps look at, one row per image.

    Attributes:
        measures: Measures of the files and their pixels.
        features: (N, D).
        probabilities: (N, C), or None where labels cannot be judged.
    """

    measures: ImageMeasures
    features: NDArray[np.float32]
    probabilities: NDArray[np.float64] | None


def audit(options: AuditOptions, reporter: Reporter = SILENT) -> Audit:
    """Look for what is wrong in a dataset, and write audit.csv and audit.html.

    The dataset is not changed.

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
        evidence = _gather(options, dataset, reporter)
        found = tuple(_look(options, dataset, evidence, reporter))
        result = Audit(
            folder=folder,
            images=len(dataset.index),
            class_names=dataset.index.class_names,
            findings=tuple(finding for step in found for finding in step.findings),
            rules={kind: rule for step in found for kind, rule in step.rules.items()},
            left_out=dataset.index.left_out,
        )
        page = audit_page(_report(options, dataset, evidence, result, reporter))
        with claimed(folder, options, AUDIT):
            write_findings(folder / NAME, result.findings)
            write_page(folder / PAGE, page)
    return result


def _gather(options: AuditOptions, dataset: Dataset, reporter: Reporter) -> _Evidence:
    extractor = create_extractor(
        options, reporter, backbone=options.backbone, weights=options.weights
    )
    measures = measure_dataset(options, dataset, reporter)
    features = compute_features(options, dataset, extractor, reporter)
    # What a step frees is kept in pieces, of which the next step can use few.
    release_freed_memory()
    probabilities = judge_labels(dataset, features, options.seed, reporter)
    release_freed_memory()
    return _Evidence(measures, features, probabilities)


def _look(
    options: AuditOptions, dataset: Dataset, evidence: _Evidence, reporter: Reporter
) -> Iterator[Found]:
    """Yield what each step finds."""
    paths = dataset.index.paths
    yield find_unreadable(dataset)
    yield find_copies(dataset)
    yield find_label_errors(dataset, evidence.probabilities)
    yield find_outliers(paths, evidence.features)
    yield find_poor_images(paths, evidence.measures)
    yield find_confused_classes(dataset, evidence.probabilities)
    yield find_small_classes(dataset)
    yield find_shortcuts(dataset, evidence.measures, options.seed, reporter)


def _report(
    options: AuditOptions, dataset: Dataset, evidence: _Evidence, result: Audit, reporter: Reporter
) -> AuditReport:
    """Gather what the page shows."""
    index = dataset.index
    names = (index.class_names[label] for label in index.labels)
    labels = dict(zip(index.paths, names, strict=True))
    typical = find_typical(dataset, evidence.features, _doubted(result.findings))
    return AuditReport(
        data=str(options.data),
        dataset_words=options.dataset_words,
        digest=dataset.digest(),
        backbone=options.backbone,
        images=result.images,
        class_names=result.class_names,
        findings=result.findings,
        rules=result.rules,
        labels=labels,
        sha256=dict(zip(index.paths, dataset.sha256, strict=True)),
        typical=typical,
        thumbnails=draw_thumbnails(
            dataset,
            images_to_show(result.findings, labels, typical),
            workers=reading_threads(options),
            allow_truncated=options.allow_truncated,
            reporter=reporter,
        ),
        decisions=read_decisions(options.decisions) if options.decisions else (),
    )


def _doubted(findings: Sequence[Finding]) -> set[str]:
    """Return the paths of images that are no examples of their class; copies may be."""
    return {finding.path for finding in findings if finding.kind is not Kind.COPY}
