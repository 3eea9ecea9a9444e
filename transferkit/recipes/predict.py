"""Say what is in pictures: one record an input, in the order of the inputs."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.options.commands import PredictOptions
from transferkit.recipes.shared.compute_settings import resolve_compute
from transferkit.recipes.shared.inputs import expand_inputs, load_model
from transferkit.reporting import SILENT, Reporter
from transferkit.tables.predictions import Prediction


def predict(
    options: PredictOptions, reporter: Reporter = SILENT, *, listed: Iterable[str] = ()
) -> Iterator[Prediction]:
    """Yield a prediction for every input, as they are computed.

    Args:
        options: What to predict with what; writing is the caller's.
        reporter: Told of the progress.
        listed: The paths that stand for the input `-`.

    Raises:
        DataError: When the inputs name no file at all.
        BundleError: When the model cannot be loaded.
        WeightsError: When the backbone's weights cannot be had.
    """
    paths = expand_inputs(options.inputs, listed)
    bundle = load_model(options)
    compute = resolve_compute(options, bundle.network, reporter)
    with reporter.progress("predicting", len(paths)) as progress:
        for part in bundle.probabilities(paths, compute):
            failed = dict(part.failures)
            found = (
                dict(zip(part.rows.tolist(), part.values, strict=True)) if len(part.rows) else {}
            )
            for row in sorted([*failed, *found]):
                if row in failed:
                    yield Prediction(paths[row], None, None, (), failed[row])
                else:
                    yield _prediction(paths[row], found[row], bundle.class_names, options)
            progress.advance(len(failed) + len(found))


def _prediction(
    path: str, row: NDArray[np.floating[Any]], names: Sequence[str], options: PredictOptions
) -> Prediction:
    best = np.argsort(-row, kind="stable")[: options.top_k]
    confidence = float(row[best[0]])
    label = names[best[0]] if confidence >= options.min_confidence else None
    return Prediction(path, label, confidence, tuple((names[i], float(row[i])) for i in best))
