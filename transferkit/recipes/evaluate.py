"""Measure a trained model on a labelled folder."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.bundle import ModelBundle
from transferkit.data.bad_images import readable_part
from transferkit.data.index import ImageIndex, scan
from transferkit.data.split_file import trained_digests
from transferkit.errors import DataError, name_some
from transferkit.files import file_digest, require_place, write_json
from transferkit.inference import collect
from transferkit.metrics import summarize
from transferkit.options.commands import EvaluateOptions
from transferkit.recipes.shared.compute_settings import resolve_compute
from transferkit.reporting import SILENT, Reporter
from transferkit.run.folder import MODEL, SPLIT


def evaluate(options: EvaluateOptions, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Metrics of a model on the readable images of a folder.

    Of a dataset with train/, val/ and test/ only the test part is measured, or without one the
    validation part. Images that the run was trained on are measured too, and counted in a notice.

    Returns:
        What `metrics.summarize` gives, and "left_out": path and reason of all that was not used.

    Raises:
        DataError: When the folder has classes that the model does not know, or nothing readable,
            or the split of the model's run is damaged.
        BundleError: When the model cannot be loaded.
        OutputError: When the output cannot be written.
    """
    if options.output:
        require_place(options.output)
    index = _held_out(scan(options.data), reporter)
    bundle = ModelBundle.load(options.model)
    trained = _trained_digests(options.model)
    labels = _model_labels(index, bundle.class_names)
    compute = resolve_compute(options, bundle.network, reporter)
    with reporter.progress("evaluating", len(index)) as progress:
        parts = bundle.probabilities(index.files, compute)
        table = collect(parts, len(index), len(bundle.class_names), progress.advance)
    readable = readable_part(index, table.reasons, options.on_bad_image)
    metrics = summarize(labels[table.readable], table.values[table.readable], bundle.class_names)
    metrics["left_out"] = [asdict(item) for item in readable.left_out]
    reporter.left_out(readable.left_out)
    if options.output:
        write_json(options.output, metrics)
    _tell_of_trained(readable, trained, reporter)
    return metrics


def _held_out(index: ImageIndex, reporter: Reporter) -> ImageIndex:
    for split in ("test", "val"):
        if split in index.splits:
            reporter.notice(f"measuring the {split} part of {index.root}")
            return index.only(split)
    return index


def _trained_digests(model: str) -> frozenset[str]:
    """Of what the model was trained on; none for one without its run, which does not say."""
    run = Path(model)
    split = (run.parent if run.name == MODEL else run) / SPLIT
    return trained_digests(split) if split.is_file() else frozenset()


def _tell_of_trained(index: ImageIndex, trained: frozenset[str], reporter: Reporter) -> None:
    """Count the images of which the model has seen these files, whose figures flatter."""
    if not trained:
        return
    with reporter.progress("comparing with what it was trained on", len(index)) as progress:
        shared, gone = 0, []
        for path, file in zip(index.paths, index.files, strict=True):
            try:
                shared += file_digest(file) in trained
            except OSError:  # It is measured already; that is not to be lost.
                gone.append(path)
            progress.advance(1)
    if gone:
        reporter.notice(
            f"{len(gone)} images were measured and cannot be read any more, to see whether the "
            f"model was trained on them: {name_some(gone)}"
        )
    if shared:
        reporter.notice(
            f"{shared} of {len(index)} images are among those that the model was trained on, so "
            "that these figures flatter"
        )


def _model_labels(index: ImageIndex, class_names: Sequence[str]) -> NDArray[np.int64]:
    """The index's labels as positions in the model's classes."""
    strange = [name for name in index.class_names if name not in class_names]
    if strange:
        raise DataError(
            f"{index.root}: has {len(strange)} classes that the model does not know "
            f"({name_some(strange)}); expected folders named as its classes: "
            f"{name_some(class_names, 20)}"
        )
    position = {name: i for i, name in enumerate(class_names)}
    return np.array([position[index.class_names[i]] for i in index.labels], dtype=np.int64)
