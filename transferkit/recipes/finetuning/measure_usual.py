"""Measure which images are usual: validation images, by the features that the model sees."""

import numpy as np
from numpy.typing import NDArray

from transferkit.inference import collect
from transferkit.models.feature_extractor import PRELOGITS, FeatureExtractor
from transferkit.models.usual_images import FEWEST, MOST, UsualImages
from transferkit.network_outputs import features
from transferkit.recipes.finetuning.run_in_progress import TrainingRun
from transferkit.run.stopwatch import EVALUATION
from transferkit.sampling import evenly_spaced


def usual_by_network(run: TrainingRun) -> UsualImages | None:
    """Return the usual images of a trained network; None where there are too few.

    An image that can no longer be read is left out.
    """
    rows = evenly_spaced(len(run.dataset.rows("val")), MOST)
    if len(rows) < FEWEST:
        return None
    index = run.dataset.index
    files = [index.files[row] for row in run.dataset.rows("val")[rows].tolist()]
    extractor = FeatureExtractor(run.network, (PRELOGITS,))
    (width,) = extractor.shape
    with (
        run.stopwatch.part(EVALUATION),
        run.reporter.progress("measuring usual images", len(files)) as progress,
    ):
        parts = features(extractor, files, run.compute)
        table = collect(parts, len(files), width, progress.advance)
    readable = table.readable
    if readable.sum() < FEWEST:
        return None
    return UsualImages.measure(table.values[readable], rows[readable])


def usual_by_features(values: NDArray[np.float32]) -> UsualImages | None:
    """Return the usual images of a classifier on features; None where there are too few.

    Args:
        values: (N, D) features of the validation images.
    """
    rows = evenly_spaced(len(values), MOST)
    return UsualImages.measure(values[rows], rows) if len(rows) >= FEWEST else None
