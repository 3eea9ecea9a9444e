"""Predict many images on a Ray cluster, into a folder of Parquet files."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from transferkit.data.images import StoredImage
from transferkit.options.predict import PredictOptions
from transferkit.ray_cluster import Compute
from transferkit.recipes.predicting.answer import choose_answer
from transferkit.recipes.shared.inputs import expand_inputs, only_files
from transferkit.recipes.shared.parts_on_ray import compute_parts
from transferkit.recipes.shared.predictor import open_predictor
from transferkit.reporter import SILENT, Reporter
from transferkit.tables.predictions import FAILED, parquet_of


@dataclass(frozen=True)
class PredictedParts:
    """What was predicted.

    Attributes:
        total: Number of records.
        failed: Number of those that hold an error.
        parts: Number of files.
    """

    total: int
    failed: int
    parts: int


def predict_on_ray(
    options: PredictOptions, reporter: Reporter = SILENT, *, listed: Iterable[str] = ()
) -> PredictedParts:
    """Write predictions for all inputs to a folder of Parquet files, in the order of the inputs.

    Args:
        options: The model, the inputs and the folder.
        reporter: Receives notices and progress.
        listed: The paths that replace the input `-`.

    Raises:
        DataError: When the inputs name no files.
        BundleError: When the model cannot be loaded.
        OptionError: When an input is not a path.
        OutputError: When the folder cannot be written, or was begun with other inputs.
        EngineError: When Ray is not installed, or the cluster cannot be reached.
    """
    images = only_files(expand_inputs(options.inputs, listed), "--on")
    # An error of the model or the options is told here, before a cluster starts.
    choose_answer(options, open_predictor(options, reporter, len(images)), reporter)
    failed = compute_parts(
        options,
        reporter,
        [one.to_json() if isinstance(one, StoredImage) else one for one in images],
        partial(_predictions, options, len(images)),
        doing="predicting",
        depends_on={"paths_sha256": _digest(map(str, images))},
        key=FAILED,
    )
    return PredictedParts(len(images), sum(map(int, failed)), len(failed))


def _predictions(options: PredictOptions, total: int) -> Compute:
    """Load the model, and return what computes the records of images, given as JSON values.

    Args:
        options: The model and what the records hold.
        total: Number of images of all tasks, so that the engine is the one of a single process.
    """
    predictor = open_predictor(options, SILENT, total)
    answer = choose_answer(options, predictor, SILENT)

    def compute(values: list[Any]) -> bytes:
        images = [one if isinstance(one, str) else StoredImage.from_json(one) for one in values]
        names = list(map(str, images))
        found = []
        for part in predictor.probabilities(images):
            found += answer.predictions(names, part)
        return parquet_of(found)

    return compute


def _digest(paths: Iterable[str]) -> str:
    return sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest()
