"""What the page of a run shows: chosen from its record, with pictures, evidence and features."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from transferkit.bundle import ModelBundle
from transferkit.errors import OptionError, name_some
from transferkit.inference import ComputeSettings, collect, features
from transferkit.metrics import likely_label_errors
from transferkit.report.evidence import Album, draw_evidence
from transferkit.report.feature_map import FeatureMap, project
from transferkit.report.page import write_page
from transferkit.report.run_page import RunReport, ShownImage, run_page
from transferkit.report.thumbnails import thumbnail
from transferkit.reporting import Reporter
from transferkit.run.record import RunRecord
from transferkit.tables.probabilities import ProbabilityTable

_MISTAKES, _SUSPECTS, _MAP_IMAGES = 8, 12, 200
"""How much is shown at most, so that a page takes seconds and stays small."""

_FEWEST = 3
"""Images that make a map."""

_MAP_BATCH = 32
"""Always the same, so that a page comes out the same whatever the run's batches were."""

_NO_EVIDENCE = "Where the evidence lies is not shown; of this model transferkit explain says: {}."

_Choice = tuple[int, int]
"""A validation image and the class that the model has for it."""


def write_report(
    record: RunRecord,
    bundle: ModelBundle,
    compute: ComputeSettings,
    *,
    root: Path,
    output: Path,
    reporter: Reporter,
) -> tuple[str, ...]:
    """Gather what the page of a run shows, and write it.

    Args:
        record: The run.
        bundle: Its model.
        compute: How features are computed.
        root: Where the dataset is now.
        output: The page's file.
        reporter: Told of the progress.

    Returns:
        What could not be shown, and why.

    Raises:
        OutputError: When it cannot be written.
    """
    gathered = gather(record, bundle, compute, root, reporter)
    write_page(output, run_page(gathered))
    return tuple(gathered.notes.values())


def gather(
    record: RunRecord, bundle: ModelBundle, compute: ComputeSettings, root: Path, reporter: Reporter
) -> RunReport:
    """Everything that the page of a run shows.

    Args:
        record: The run.
        bundle: Its model; put into eval mode.
        compute: How features are computed.
        root: Where the dataset is now.
        reporter: Told of the progress.
    """
    bundle.network.module.eval()
    allow = compute.allow_truncated or bool(record.options.get("allow_truncated"))
    compute = replace(compute, batch_size=_MAP_BATCH, allow_truncated=allow)
    table = record.predictions
    wrong = _mistakes(table)
    suspected = likely_label_errors(table.labels, table.probabilities)
    mistakes, suspects = wrong[:_MISTAKES], suspected[:_SUSPECTS]
    album = Album(root, record.sha256, allow)
    rows = sorted({row for row, _ in (*mistakes, *suspects)})
    pictures = {row: album.read(table.paths[row]) for row in rows}
    evidence, why_no_evidence = _evidence(bundle, pictures, mistakes)
    drawn, why_no_map = _feature_map(table, bundle, compute, root, reporter)
    notes = {
        "pictures": _told_of_gone(pictures, table, root),
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
        names=table.label_names,
        paths=table.paths,
        labels=table.labels,
        probabilities=table.probabilities,
        mistakes=[
            replace(_shown(table, one, pictures), evidence=heat)
            for one, heat in zip(mistakes, evidence, strict=True)
        ],
        mistaken=len(wrong),
        suspects=[_shown(table, one, pictures) for one in suspects],
        suspected=len(suspected),
        feature_map=drawn,
        notes={what: why for what, why in notes.items() if why},
    )


def _mistakes(table: ProbabilityTable) -> list[_Choice]:
    """The mistakes, the most confident first."""
    predicted, confidence = table.probabilities.argmax(axis=1), table.probabilities.max(axis=1)
    rows = np.flatnonzero(predicted != table.labels)
    rows = rows[np.argsort(-confidence[rows], kind="stable")]
    return [(int(row), int(predicted[row])) for row in rows.tolist()]


def _shown(
    table: ProbabilityTable, chosen: _Choice, pictures: Mapping[int, Image.Image | None]
) -> ShownImage:
    row, suggested = chosen
    label, picture = int(table.labels[row]), pictures[row]
    return ShownImage(
        path=table.paths[row],
        label=table.label_names[label],
        suggested=table.label_names[suggested],
        confidence=float(table.probabilities[row, suggested]),
        label_probability=float(table.probabilities[row, label]),
        picture=None if picture is None else thumbnail(picture),
    )


def _evidence(
    bundle: ModelBundle,
    pictures: Mapping[int, Image.Image | None],
    mistakes: Sequence[_Choice],
) -> tuple[list[str | None], str]:
    """For each mistake where the evidence for it lies, and why that is not shown."""
    try:
        shown = [pictures[row] for row, _ in mistakes]
        return draw_evidence(bundle, shown, [suggested for _, suggested in mistakes]), ""
    except OptionError as error:
        return [None] * len(mistakes), _NO_EVIDENCE.format(error)


def _told_of_gone(
    pictures: Mapping[int, Image.Image | None], table: ProbabilityTable, root: Path
) -> str:
    """Which of the pictures could not be read; nothing where all could."""
    gone = [table.paths[row] for row, picture in pictures.items() if picture is None]
    if not gone:
        return ""
    return (
        f"{len(gone)} of {len(pictures)} pictures are not in {root} as they were when the run "
        f"began: {name_some(gone, 3)}. Where they have moved, draw the page again with "
        "transferkit report RUN --data FOLDER."
    )


def _feature_map(
    table: ProbabilityTable,
    bundle: ModelBundle,
    compute: ComputeSettings,
    root: Path,
    reporter: Reporter,
) -> tuple[FeatureMap | None, str]:
    """Features of some of the validation images on a plane, or why they are not shown."""
    rows = np.arange(len(table.paths))
    if len(rows) > _MAP_IMAGES:
        # Evenly from all of them, which stand class by class.
        rows = np.linspace(0, len(rows) - 1, _MAP_IMAGES).round().astype(np.int64)
    files = [root / table.paths[row] for row in rows.tolist()]
    (width,) = bundle.extractor.shape
    with reporter.progress("drawing the report", len(files)) as progress:
        parts = features(bundle.extractor, files, compute)
        found = collect(parts, len(files), width, progress.advance)
    rows, values = rows[found.readable], found.values[found.readable]
    if len(rows) < _FEWEST:
        return None, f"No map of the features: {len(rows)} of {len(files)} pictures were found."
    return project(rows, values), ""
