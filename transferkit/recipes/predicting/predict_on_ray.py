"""Predict many images on a Ray cluster: parts of a table, each computed and written once."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from transferkit.errors import OptionError
from transferkit.options.declaration import OnResume, option_names
from transferkit.options.predict import PredictOptions
from transferkit.options.recorded import json_values
from transferkit.ray_cluster import Compute, compute_on_ray
from transferkit.recipes.predicting.answer import choose_answer
from transferkit.recipes.shared.inputs import expand_inputs
from transferkit.recipes.shared.predictor import open_predictor
from transferkit.reporter import SILENT, Reporter
from transferkit.run.folder import Contents, chosen_folder, claimed
from transferkit.tables.parts import MANIFEST, PARTS, PartsFolder
from transferkit.tables.predictions import parquet_of

_CONTENTS = Contents(MANIFEST, (MANIFEST, PARTS))


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
    assert options.on
    assert options.output
    paths = _paths(options, listed)
    size = options.images_per_part
    parts = [paths[start : start + size] for start in range(0, len(paths), size)]
    # An error of the model or the options is told here, before a cluster starts.
    choose_answer(options, open_predictor(options, reporter, len(paths)), reporter)
    with chosen_folder(options, "", _CONTENTS), claimed(options.output, options, _CONTENTS):
        folder = PartsFolder(options.output)
        folder.begin(_manifest(options, paths), resume=options.resume)
        missing = folder.missing(len(parts))
        tasks = ((number, parts[number]) for number in missing)
        done = len(paths) - sum(len(parts[number]) for number in missing)
        with reporter.progress("predicting", len(paths)) as progress:
            progress.advance(done)
            try:
                for number, content in compute_on_ray(
                    tasks,
                    lambda: _predictions(options, len(paths)),
                    address=options.on,
                    actors=options.actors,
                ):
                    folder.write(number, content)
                    progress.advance(len(parts[number]))
            except KeyboardInterrupt:
                where = shlex.quote(str(options.output))
                reporter.resumable(f"the same command with -o {where} --resume")
                raise
        return PredictedParts(len(paths), folder.failed(len(parts)), len(parts))


def _predictions(options: PredictOptions, total: int) -> Compute:
    """Load the model, and return what computes the records of a list of paths.

    Args:
        options: The model and what the records hold.
        total: Number of images of all tasks, so that the engine is the one of a single process.
    """
    predictor = open_predictor(options, SILENT, total)
    answer = choose_answer(options, predictor, SILENT)

    def compute(paths: list[str]) -> bytes:
        found = []
        for part in predictor.probabilities(paths):
            found += answer.predictions(paths, part)
        return parquet_of(found)

    return compute


def _paths(options: PredictOptions, listed: Iterable[str]) -> list[str]:
    images = expand_inputs(options.inputs, listed)
    paths = [image for image in images if isinstance(image, str)]
    if len(paths) < len(images):
        raise OptionError("--on: takes paths, got images; write them to files")
    return paths


def _manifest(options: PredictOptions, paths: list[str]) -> dict[str, object]:
    """Return what the records depend on."""
    digest = sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest()
    kept = option_names(options, on_resume=OnResume.KEPT)
    return {
        "version": 1,
        "images": len(paths),
        "paths_sha256": digest,
        "options": json_values({name: getattr(options, name) for name in kept}),
    }
