"""Evaluate a trained model on labelled images."""

from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.data.bad_images import readable_part
from transferkit.data.class_names import describe_unknown, normalized
from transferkit.data.images import ImageError, read_bytes
from transferkit.data.index import ImageIndex
from transferkit.data.split_file import trained_digests
from transferkit.errors import DataError, StoreError, name_some
from transferkit.files import require_new, require_place, write_json
from transferkit.inference import collect
from transferkit.metrics import summarize
from transferkit.options.evaluate import EvaluateOptions
from transferkit.recipes.shared.inputs import find_images, tell_layout
from transferkit.recipes.shared.predictor import open_predictor
from transferkit.reporter import SILENT, Reporter
from transferkit.run.folder import MODEL, SPLIT
from transferkit.run.stored_model import local_model


def evaluate(options: EvaluateOptions, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Return the metrics of a model on the readable images of a dataset.

    In a dataset with train/, val/ and test/, only the test part is evaluated, or the validation
    part where there is no test part. Images that the model was trained on are evaluated too, and
    counted in a notice.

    Returns:
        The metrics of `metrics.summarize`, and "left_out": path and reason of all unused files.

    Raises:
        DataError: When the folder has classes that the model does not know, or no readable image,
            or when the split of the model's run is damaged.
        BundleError: When the model cannot be loaded.
        OutputError: When the output cannot be written.
    """
    if options.output:
        require_new(options.output, overwrite=options.overwrite)
        require_place(options.output)
    index = find_images(options, options.data)
    tell_layout(index, reporter)
    index = _held_out(index, reporter)
    predictor = open_predictor(options, reporter, len(index))
    trained = _trained_digests(options.model)
    labels = _model_labels(index, predictor.class_names)
    with reporter.progress("evaluating", len(index)) as progress:
        parts = predictor.probabilities(index.files)
        table = collect(parts, len(index), len(predictor.class_names), progress.advance)
    readable = readable_part(index, table.reasons, options.on_bad_image)
    metrics = summarize(labels[table.readable], table.values[table.readable], predictor.class_names)
    metrics["left_out"] = [asdict(item) for item in readable.left_out]
    reporter.left_out(readable.left_out)
    if options.output:
        write_json(options.output, metrics)
    _report_training_images(readable, trained, reporter)
    return metrics


def _held_out(index: ImageIndex, reporter: Reporter) -> ImageIndex:
    for split in ("test", "val"):
        if split in index.splits:
            reporter.notice(f"evaluating the {split} part of {index.root}")
            return index.only(split)
    return index


def _trained_digests(model: str) -> frozenset[str]:
    """Return the digests of the training images; none for a model outside its run."""
    run = Path(local_model(model))
    split = (run.parent if run.name == MODEL else run) / SPLIT
    return trained_digests(split) if split.is_file() else frozenset()


def _report_training_images(index: ImageIndex, trained: frozenset[str], reporter: Reporter) -> None:
    """Count evaluated images that were also trained on; they inflate the metrics."""
    if not trained:
        return
    with reporter.progress("comparing with the training images", len(index)) as progress:
        shared, unreadable = 0, []
        for path, file in zip(index.paths, index.files, strict=True):
            try:
                shared += sha256(read_bytes(file)).hexdigest() in trained
            except (ImageError, StoreError):
                # The metrics are computed already and must not be lost.
                unreadable.append(path)
            progress.advance(1)
    if unreadable:
        reporter.notice(
            f"{len(unreadable)} images were evaluated but can no longer be read to check whether "
            f"the model was trained on them: {name_some(unreadable)}"
        )
    if shared:
        reporter.notice(
            f"{shared} of {len(index)} images were also used to train the model; they inflate the "
            "metrics"
        )


def _model_labels(index: ImageIndex, class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return the labels of the index as class indices of the model."""
    position = {normalized(name): i for i, name in enumerate(class_names)}
    unknown = [name for name in index.class_names if name not in position]
    if unknown:
        raise DataError(
            f"{index.root}: has {len(unknown)} classes that the model does not know "
            f"({name_some(describe_unknown(unknown, class_names))}); expected the names of its "
            f"classes: {name_some(class_names)}"
        )
    return np.array([position[index.class_names[i]] for i in index.labels], dtype=np.int64)
