"""A table in parts, each computed on a cluster and written once."""

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from transferkit.errors import EngineError
from transferkit.options.declaration import OnResume, declared_options
from transferkit.options.extract_features import ExtractFeaturesOptions
from transferkit.options.predict import PredictOptions
from transferkit.options.recorded import json_values
from transferkit.ray_cluster import Compute, compute_on_ray
from transferkit.reporter import Reporter
from transferkit.run.folder import Contents, claimed
from transferkit.tables.parts import MANIFEST, PARTS, PartsFolder

_CONTENTS = Contents(MANIFEST, (MANIFEST, PARTS))


def compute_parts(
    options: PredictOptions | ExtractFeaturesOptions,
    reporter: Reporter,
    images: list[Any],
    create: Callable[[], Compute],
    *,
    doing: str,
    depends_on: Mapping[str, Any],
    key: bytes,
) -> list[bytes]:
    """Compute the parts that are missing in the output folder, and write each when it is done.

    Args:
        options: The folder, the cluster and the size of a part.
        reporter: Receives progress, and the command that resumes if the pass ends early.
        images: The images as JSON values, in the order of the table.
        create: Called once in each process of the cluster, to load what computes a part.
        doing: What is computed, for the progress.
        depends_on: What the rows depend on besides the options, as JSON values.
        key: A key in the metadata of each part.

    Returns:
        The value of `key` in each part, in order.

    Raises:
        OutputError: When the folder cannot be written, or was begun with something else.
        EngineError: When Ray is not installed, or the cluster cannot be reached.
    """
    assert options.on
    assert options.output
    size = options.images_per_part
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    with claimed(options.output, options, _CONTENTS):
        folder = PartsFolder(options.output)
        folder.begin(_manifest(options, len(images), depends_on), resume=options.resume)
        missing = folder.missing(len(parts))
        with reporter.progress(doing, len(images)) as progress:
            progress.advance(len(images) - sum(len(parts[number]) for number in missing))
            try:
                for number, content in compute_on_ray(
                    ((number, parts[number]) for number in missing),
                    create,
                    address=options.on,
                    actors=options.actors,
                ):
                    folder.write(number, content)
                    progress.advance(len(parts[number]))
            except (KeyboardInterrupt, EngineError):
                where = shlex.quote(str(options.output))
                reporter.resumable(f"the same command with -o {where} --resume")
                raise
        return folder.metadata(key, len(parts))


def _manifest(
    options: PredictOptions | ExtractFeaturesOptions, images: int, depends_on: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the rows depend on; options by their flags, which messages name."""
    given = {
        declared.flag: getattr(options, declared.name)
        for declared in declared_options(options)
        if declared.option.on_resume is OnResume.KEPT
    }
    return {"version": 1, "images": images, **depends_on, **json_values(given)}
