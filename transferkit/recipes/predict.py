"""Say what is in pictures: one record an input, in the order of the inputs."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.bundle import ModelBundle
from transferkit.data.walk import walk_images
from transferkit.errors import DataError
from transferkit.models.backbones import categories, create_network
from transferkit.recipes.compute import create_pass
from transferkit.recipes.options import PredictOptions
from transferkit.reporting import SILENT, Reporter
from transferkit.tables.predictions import Prediction

STANDARD_INPUT = "-"


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
    paths = _expand(options.inputs, listed)
    bundle = _load(options)
    how = create_pass(options, bundle.network, reporter)
    with reporter.progress("predicting", len(paths)) as progress:
        for part in bundle.probabilities(paths, how):
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


def _load(options: PredictOptions) -> ModelBundle:
    if options.model:
        return ModelBundle.load(options.model)
    network = create_network(options.backbone or "", weights=options.weights)
    return ModelBundle(network, categories(network))


def _prediction(
    path: str, row: NDArray[np.floating[Any]], names: Sequence[str], options: PredictOptions
) -> Prediction:
    best = np.argsort(-row, kind="stable")[: options.top_k]
    confidence = float(row[best[0]])
    label = names[best[0]] if confidence >= options.min_confidence else None
    return Prediction(path, label, confidence, tuple((names[i], float(row[i])) for i in best))


def _expand(inputs: Sequence[str], listed: Iterable[str]) -> list[str]:
    """Each input's files: a folder's images, a pattern's matches, or the path as it stands.

    A folder without images and a pattern without a match stay as they are, and become records
    with their reason.
    """
    paths: list[str] = []
    found = 0
    for given in inputs:
        if given == STANDARD_INPUT:
            more = [line for line in (entry.rstrip("\r\n") for entry in listed) if line]
        elif os.path.isdir(given):
            more = _images_in(given)
        elif not os.path.lexists(given) and glob.has_magic(given):
            # A pattern in quotes reaches us unexpanded, as it does from shells without patterns.
            matches = sorted(glob.glob(given, recursive=True))
            more = [
                path
                for match in matches
                for path in (_images_in(match) if os.path.isdir(match) else [match])
            ]
        else:
            more = [given]
        found += len(more)
        paths += more or [given]
    if not found:
        raise DataError(
            f"no images in {', '.join(inputs)}; expected image files, folders of them, or patterns"
        )
    return paths


def _images_in(folder: str) -> list[str]:
    # A folder below that may not be read stays an input too, and becomes a record.
    return [
        str(found.path)
        for found in walk_images(Path(folder), set())
        if not found.reason or found.unreadable
    ]
