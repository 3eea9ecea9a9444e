"""Predict the classes of images: one record per input, in the order of the inputs."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.data.image_inputs import image_name
from transferkit.options.other_commands import PredictOptions
from transferkit.recipes.shared.inputs import expand_inputs
from transferkit.recipes.shared.predictor import open_predictor
from transferkit.reporter import SILENT, Reporter
from transferkit.tables.predictions import Prediction


def predict(
    options: PredictOptions, reporter: Reporter = SILENT, *, listed: Iterable[str] = ()
) -> Iterator[Prediction]:
    """Yield a prediction for every input as soon as it is computed.

    Args:
        options: The model and the inputs; the caller writes the output.
        reporter: Receives notices and progress.
        listed: The paths that replace the input `-`.

    Raises:
        DataError: When the inputs name no files.
        BundleError: When the model cannot be loaded.
        WeightsError: When the backbone's weights are not available.
    """
    images = expand_inputs(options.inputs, listed)
    names = [image_name(image, position) for position, image in enumerate(images)]
    predictor = open_predictor(options, reporter, len(images))
    with reporter.progress("predicting", len(images)) as progress:
        for part in predictor.probabilities(images):
            failed = dict(part.failures)
            predicted = (
                dict(zip(part.rows.tolist(), part.values, strict=True)) if len(part.rows) else {}
            )
            for row in sorted([*failed, *predicted]):
                if row in failed:
                    yield Prediction(names[row], None, None, (), failed[row])
                else:
                    yield _prediction(names[row], predicted[row], predictor.class_names, options)
            progress.advance(len(failed) + len(predicted))


def _prediction(
    path: str, row: NDArray[np.floating[Any]], names: Sequence[str], options: PredictOptions
) -> Prediction:
    best = np.argsort(-row, kind="stable")[: options.top_k]
    confidence = float(row[best[0]])
    label = names[best[0]] if confidence >= options.min_confidence else None
    return Prediction(path, label, confidence, tuple((names[i], float(row[i])) for i in best))
