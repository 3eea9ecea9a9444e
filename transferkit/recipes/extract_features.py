"""Compute the features of a dataset's images and write them as a table."""

from dataclasses import fields
from hashlib import sha256
from pathlib import Path

from transferkit.bundle import ModelBundle, model_name
from transferkit.data.bad_images import readable_part
from transferkit.data.index import ImageIndex
from transferkit.errors import DataError, OutputError
from transferkit.files import require_new, require_place
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.strategies import Strategy
from transferkit.network_outputs import features
from transferkit.options.dataset_options import ClassifierOptions
from transferkit.options.extract_features import ExtractFeaturesOptions
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.shared import DEFAULT_BACKBONE
from transferkit.places import Url
from transferkit.recipes.extracting.extract_on_ray import extract_on_ray
from transferkit.recipes.extracting.extraction import (
    Extraction,
    choose_extractor,
    feature_table,
    identity,
)
from transferkit.recipes.shared.compute_settings import resolve_compute, with_fitting_batches
from transferkit.recipes.shared.inputs import find_images, tell_layout
from transferkit.reporter import SILENT, Reporter
from transferkit.tables import format_of
from transferkit.tables.feature_table import FeatureFormat, write_features
from transferkit.tables.spool import Spool

PARTIAL = ".partial"
"""Suffix of the folder of an unfinished extraction, which has the name of the output file."""


def extract_features(options: ExtractFeaturesOptions, reporter: Reporter = SILENT) -> Extraction:
    """Compute the features of every image of a dataset and write them in the order of the index.

    Features are written to disk as they are computed, so memory use does not grow with their
    number. An interrupted extraction keeps them in a folder next to the output.

    Raises:
        DataError: When there are no images, or none can be read.
        UnknownNameError: When there is no such backbone or layer.
        WeightsError: When the backbone's weights are not available.
        OptionError: When an option cannot work with this backbone or format.
        OutputError: When the file exists or cannot be written.
        EngineError: When the engine or Ray is not installed, or the cluster cannot be reached.
    """
    if options.on:
        return extract_on_ray(options, reporter)
    kind: FeatureFormat = format_of(options.output, FeatureFormat, "--output")
    _require_new_output(options)
    index = find_images(options, options.data)
    tell_layout(index, reporter)
    extractor = choose_extractor(options, reporter, kind)
    spool = _compute_features(options, index, extractor, reporter)
    try:
        readable = readable_part(index, spool.reasons, options.on_bad_image)
    except DataError:
        spool.remove()
        raise
    table = feature_table(
        spool.rows, readable.paths, readable.labels, readable.class_names, extractor
    )
    write_features(table, options.output, kind)
    shape = spool.rows.shape
    spool.remove()
    reporter.left_out(readable.left_out)
    return Extraction(options.output, shape, table.backbone, table.layer, readable.left_out)


def to_finetune_options(options: ExtractFeaturesOptions) -> FinetuneOptions:
    """Return the options of `finetune` that do the same, for an extraction with a classifier.

    Raises:
        BundleError: When the options name a model that cannot be loaded.
    """
    shared = {entry.name: getattr(options, entry.name) for entry in fields(ClassifierOptions)}
    backbone = options.backbone or DEFAULT_BACKBONE
    if options.model:
        head = ModelBundle.load(options.model).head
        backbone = model_name(options.model)
        if head:
            shared["layer"] = options.layer or head.layers
            shared["pool"] = options.pool or head.pool
    return FinetuneOptions(
        options.data,
        options.output,
        overwrite=options.overwrite,
        backbone=backbone,
        weights=options.weights,
        strategy=Strategy.FEATURES,
        **shared,
    )


def _require_new_output(options: ExtractFeaturesOptions) -> None:
    require_new(options.output, overwrite=options.overwrite)
    require_place(options.output)
    if _partial(options).exists() and not (options.resume or options.overwrite):
        raise OutputError(
            f"{_partial(options)}: holds an unfinished extraction; resume it with --resume, or "
            "start over with --overwrite"
        )


def _partial(options: ExtractFeaturesOptions) -> Path:
    """Return the folder of unfinished rows; for a file in a store, it is in the working folder."""
    name = options.output.name
    if isinstance(options.output, Url):
        return Path(f"{name}-{sha256(options.output.encode()).hexdigest()[:8]}{PARTIAL}")
    return options.output.with_name(name + PARTIAL)


def _compute_features(
    options: ExtractFeaturesOptions,
    index: ImageIndex,
    extractor: FeatureExtractor,
    reporter: Reporter,
) -> Spool:
    """Compute the features of all files on disk; `resume` keeps those of an earlier extraction."""
    compute = resolve_compute(
        options, extractor.network, reporter, engine=options.engine, images=len(index)
    )
    compute = with_fitting_batches(options, extractor.network, compute)
    depends_on = identity(index, extractor) | {
        "precision": compute.precision,
        "engine": compute.engine,
    }
    spool = Spool.open(_partial(options), depends_on, extractor.shape, resume=options.resume)
    start = spool.done
    try:
        with reporter.progress("extracting", len(index)) as progress:
            progress.advance(start)
            for part in features(extractor, index.files[start:], compute):
                spool.add(part.values, {start + row: why for row, why in part.failures})
                progress.advance(len(part.rows) + len(part.failures))
    except KeyboardInterrupt:
        reporter.notice(f"{spool.done} of {len(index)} images are done; resume with --resume")
        raise
    return spool
