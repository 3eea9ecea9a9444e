"""Measure a trained model on a labelled folder."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.bundle import ModelBundle
from transferkit.data.index import ImageIndex, scan
from transferkit.errors import DataError, name_some
from transferkit.files import require_place, write_json
from transferkit.inference import collect
from transferkit.metrics import summarize
from transferkit.recipes.compute import create_pass, readable_part
from transferkit.recipes.options import EvaluateOptions
from transferkit.reporting import SILENT, Reporter


def evaluate(options: EvaluateOptions, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Metrics of a model on the readable images of a folder.

    Of a dataset with train/, val/ and test/ only the test part is measured, or without one the
    validation part.

    Returns:
        What `metrics.summarize` gives, and "left_out": path and reason of all that was not used.

    Raises:
        DataError: When the folder has classes that the model does not know, or nothing readable.
        BundleError: When the model cannot be loaded.
        OutputError: When the output cannot be written.
    """
    if options.output:
        require_place(options.output)
    index = _held_out(scan(options.data), reporter)
    bundle = ModelBundle.load(options.model)
    labels = _model_labels(index, bundle.class_names)
    how = create_pass(options, bundle.network, reporter)
    with reporter.progress("evaluating", len(index)) as progress:
        parts = bundle.probabilities(index.files, how)
        table = collect(parts, len(index), len(bundle.class_names), progress.advance)
    left_out = readable_part(index, table.reasons, options.on_bad_image).left_out
    metrics = summarize(labels[table.readable], table.values[table.readable], bundle.class_names)
    metrics["left_out"] = [asdict(item) for item in left_out]
    reporter.left_out(left_out)
    if options.output:
        write_json(options.output, metrics)
    return metrics


def _held_out(index: ImageIndex, reporter: Reporter) -> ImageIndex:
    for split in ("test", "val"):
        if split in index.splits:
            reporter.notice(f"measuring the {split} part of {index.root}")
            return index.only(split)
    return index


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
