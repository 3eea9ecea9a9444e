"""The contents of a run's page: chosen from its record, with images, evidence and features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from transferkit.bundle import ModelBundle
from transferkit.compute import ComputeSettings
from transferkit.data.scan import locate
from transferkit.errors import OptionError, name_some
from transferkit.inference import collect
from transferkit.metrics import doubtful_labels
from transferkit.network_outputs import features
from transferkit.places import Place
from transferkit.report.evidence import RecordedImages, draw_evidence
from transferkit.report.feature_map import FeatureMap, project
from transferkit.report.page import write_page
from transferkit.report.run_page import RunReport, ShownImage, run_page
from transferkit.report.thumbnails import thumbnail
from transferkit.reporter import Reporter
from transferkit.run.record import RunRecord
from transferkit.sampling import evenly_spaced
from transferkit.tables.probabilities import ProbabilityTable

_MISTAKES, _SUSPECTS, _UNUSUAL, _MAP_IMAGES = 8, 12, 8, 200
"""At most this many are shown, so that a page takes seconds and stays small."""

_MIN_MAP_IMAGES = 3

_MAP_BATCH = 32
"""A fixed batch size, so that the page does not depend on the run's batch size."""

_NO_EVIDENCE = "The evidence is not shown. For this model, transferkit explain reports: {}."

_Choice = tuple[int, int]
"""Position of a validation image, and the class that the model suggests for it."""

_Images = Mapping[int, Image.Image | None]
"""Position of a validation image -> the image; None if it is missing or has changed."""


@dataclass(frozen=True, eq=False)
class ReportSources:
    """Everything that the page of a run is made from.

    Attributes:
        record: The run's record.
        bundle: Its model; put into eval mode.
        compute: Settings of the pass that computes features.
        data: The dataset now.
    """

    record: RunRecord
    bundle: ModelBundle
    compute: ComputeSettings
    data: Place


def write_report(sources: ReportSources, output: Place, reporter: Reporter) -> tuple[str, ...]:
    """Gather the contents of a run's page, and write it.

    Args:
        sources: The run, its model and its dataset.
        output: The HTML file to write.
        reporter: Receives the progress.

    Returns:
        Notes on what could not be shown, and why.

    Raises:
        OutputError: When the page cannot be written.
    """
    report = gather(sources, reporter)
    write_page(output, run_page(report))
    return tuple(report.notes.values())


def gather(sources: ReportSources, reporter: Reporter) -> RunReport:
    """Gather everything that the page of a run shows.

    Args:
        sources: The run, its model and its dataset.
        reporter: Receives the progress.
    """
    record, bundle = sources.record, sources.bundle
    bundle.network.module.eval()
    allow = sources.compute.allow_truncated or bool(record.options.get("allow_truncated"))
    compute = replace(sources.compute, batch_size=_MAP_BATCH, allow_truncated=allow)
    table = record.predictions
    wrong = _mistakes(table)
    doubtful = doubtful_labels(table.labels, table.probabilities)
    suspected = [(row, suggested) for row, suggested, _ in doubtful]
    mistakes, suspects = wrong[:_MISTAKES], suspected[:_SUSPECTS]
    recorded = RecordedImages(record.sha256, allow)
    unusual = _most_unusual(bundle, table)
    rows = sorted({row for row, _ in (*mistakes, *suspects, *unusual)})
    files = locate(sources.data, [table.paths[row] for row in rows])
    images = {
        row: recorded.read(table.paths[row], file) for row, file in zip(rows, files, strict=True)
    }
    evidence, why_no_evidence = _evidence(bundle, images, mistakes)
    feature_map, why_no_map = _feature_map(replace(sources, compute=compute), reporter)
    notes = {
        "images": _missing_images(images, table, sources.data),
        "evidence": why_no_evidence,
        "map": why_no_map,
    }
    return RunReport(
        run=str(record.options["output"]),
        data=str(record.options["data"]),
        options=record.options,
        metrics=record.metrics,
        plan=record.plan,
        history=record.history,
        predictions=table,
        mistakes=[
            replace(_shown(table, one, images), evidence=heat)
            for one, heat in zip(mistakes, evidence, strict=True)
        ],
        mistaken=len(wrong),
        suspects=[_shown(table, one, images) for one in suspects],
        suspected=len(suspected),
        unusual=[
            replace(_shown(table, one, images), unusual_score=score)
            for one, score in unusual.items()
        ],
        usual_threshold=None if bundle.usual is None else bundle.usual.threshold,
        feature_map=feature_map,
        notes={what: why for what, why in notes.items() if why},
    )


def _mistakes(table: ProbabilityTable) -> list[_Choice]:
    """Return the mistakes, most confident first."""
    predicted, confidence = table.probabilities.argmax(axis=1), table.probabilities.max(axis=1)
    rows = np.flatnonzero(predicted != table.labels)
    rows = rows[np.argsort(-confidence[rows], kind="stable")]
    return [(int(row), int(predicted[row])) for row in rows.tolist()]


def _most_unusual(bundle: ModelBundle, table: ProbabilityTable) -> dict[_Choice, float]:
    """Return the most unusual validation images and their scores, most unusual first."""
    if bundle.usual is None:
        return {}
    scores = bundle.usual.own_scores()
    most = np.argsort(-scores, kind="stable")[:_UNUSUAL]
    predicted = table.probabilities.argmax(axis=1)
    rows = bundle.usual.rows[most].tolist()
    return {
        (row, int(predicted[row])): score
        for row, score in zip(rows, scores[most].tolist(), strict=True)
    }


def _shown(table: ProbabilityTable, chosen: _Choice, images: _Images) -> ShownImage:
    row, suggested = chosen
    label, image = int(table.labels[row]), images[row]
    return ShownImage(
        path=table.paths[row],
        label=table.label_names[label],
        suggested=table.label_names[suggested],
        confidence=float(table.probabilities[row, suggested]),
        label_probability=float(table.probabilities[row, label]),
        image=None if image is None else thumbnail(image),
    )


def _evidence(
    bundle: ModelBundle, images: _Images, mistakes: Sequence[_Choice]
) -> tuple[list[str | None], str]:
    """Return a drawing of the evidence for each mistake, and why there is none if so."""
    try:
        shown = [images[row] for row, _ in mistakes]
        return draw_evidence(bundle, shown, [suggested for _, suggested in mistakes]), ""
    except OptionError as error:
        return [None] * len(mistakes), _NO_EVIDENCE.format(error)


def _missing_images(images: _Images, table: ProbabilityTable, data: Place) -> str:
    """Return a note that names the missing images; empty if all could be read."""
    missing = [table.paths[row] for row, image in images.items() if image is None]
    if not missing:
        return ""
    return (
        f"{len(missing)} of {len(images)} images in {data} are missing or have changed since the "
        f"run began: {name_some(missing, 3)}. If they have moved, draw the page again with "
        "transferkit report RUN --data FOLDER."
    )


def _feature_map(sources: ReportSources, reporter: Reporter) -> tuple[FeatureMap | None, str]:
    """Return a map of some validation images by their features, and why there is none if so."""
    paths, extractor = sources.record.predictions.paths, sources.bundle.extractor
    rows = evenly_spaced(len(paths), _MAP_IMAGES)
    files = locate(sources.data, [paths[row] for row in rows.tolist()])
    (width,) = extractor.shape
    with reporter.progress("drawing the report", len(files)) as progress:
        parts = features(extractor, files, sources.compute)
        found = collect(parts, len(files), width, progress.advance)
    rows, values = rows[found.readable], found.values[found.readable]
    if len(rows) < _MIN_MAP_IMAGES:
        return None, f"No map of the features: {len(rows)} of {len(files)} images could be read."
    return project(rows, values), ""
