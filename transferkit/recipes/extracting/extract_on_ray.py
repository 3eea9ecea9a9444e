"""Compute the features of many images on a Ray cluster, into a folder of Parquet files."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from transferkit.data.bad_images import readable_part
from transferkit.data.images import ImageFile, StoredImage
from transferkit.data.index import ImageIndex
from transferkit.inference import collect
from transferkit.network_outputs import features_in_parts
from transferkit.options.extract_features import ExtractFeaturesOptions
from transferkit.ray_cluster import Compute
from transferkit.recipes.extracting.extraction import (
    Extraction,
    choose_extractor,
    feature_table,
    identity,
)
from transferkit.recipes.shared.compute_settings import resolve_compute, with_fitting_batches
from transferkit.recipes.shared.inputs import find_images, tell_layout
from transferkit.recipes.shared.parts_on_ray import compute_parts
from transferkit.reporter import SILENT, Reporter
from transferkit.tables.feature_table import UNREADABLE, FeatureFormat, parquet_of


def extract_on_ray(options: ExtractFeaturesOptions, reporter: Reporter = SILENT) -> Extraction:
    """Write the features of a dataset to a folder of Parquet files, in the order of the index.

    The rows are those of one process, with labels that count the classes of the index, before any
    image is read.

    Raises:
        DataError: When there are no images, or none can be read.
        UnknownNameError: When there is no such backbone or layer.
        WeightsError: When the backbone's weights are not available.
        OptionError: When an option cannot work with this backbone, or features are maps.
        OutputError: When the folder cannot be written, or was begun with something else.
        EngineError: When the engine or Ray is not installed, or the cluster cannot be reached.
    """
    index = find_images(options, options.data)
    tell_layout(index, reporter)
    extractor = choose_extractor(options, reporter, FeatureFormat.PARQUET)
    # An error of device, precision or engine is told here, before a cluster starts.
    resolve_compute(options, extractor.network, reporter, engine=options.engine, images=len(index))
    unreadable = compute_parts(
        options,
        reporter,
        list(zip(index.paths, index.labels.tolist(), map(_place, index.files), strict=True)),
        partial(_features, options, index.class_names, len(index)),
        doing="extracting",
        depends_on=identity(index, extractor),
        key=UNREADABLE,
    )
    readable = readable_part(index, _reasons(index, unreadable), options.on_bad_image)
    reporter.left_out(readable.left_out)
    return Extraction(
        options.output,
        (len(readable), *extractor.shape),
        extractor.network.name,
        ",".join(extractor.layers),
        readable.left_out,
    )


def _features(options: ExtractFeaturesOptions, class_names: tuple[str, ...], total: int) -> Compute:
    """Load the network, and return what computes the table of (path, label, place) of some images.

    Args:
        options: The network and how it computes.
        class_names: Names of the classes.
        total: Number of images of all parts, so that the engine is the one of a single process.
    """
    extractor = choose_extractor(options, SILENT, FeatureFormat.PARQUET)
    compute = resolve_compute(
        options, extractor.network, SILENT, engine=options.engine, images=total
    )
    compute = with_fitting_batches(options, extractor.network, compute)
    features = features_in_parts(extractor, compute)

    def part_of(images: list[Any]) -> bytes:
        paths = np.array([path for path, *_ in images], dtype=object)
        labels = np.array([label for _, label, _ in images], dtype=np.int64)
        outputs = features([_file(where) for *_, where in images])
        found = collect(outputs, len(paths), len(extractor.columns), lambda count: None)
        table = feature_table(
            found.values[found.readable],
            paths[found.readable].tolist(),
            labels[found.readable],
            class_names,
            extractor,
        )
        return parquet_of(table, {paths[row]: why for row, why in found.reasons.items()})

    return part_of


def _place(file: ImageFile) -> Any:
    """Return where an image is as JSON values."""
    # Absolute, because the processes of a cluster stand in other folders.
    return file.to_json() if isinstance(file, StoredImage) else str(file.absolute())


def _file(where: Any) -> ImageFile:
    return Path(where) if isinstance(where, str) else StoredImage.from_json(where)


def _reasons(index: ImageIndex, unreadable: list[bytes]) -> Mapping[int, str]:
    """Return position -> reason of all images that the parts name as unreadable."""
    named: dict[str, str] = {}
    for part in unreadable:
        named |= json.loads(part)
    return {row: named[path] for row, path in enumerate(index.paths) if path in named}
