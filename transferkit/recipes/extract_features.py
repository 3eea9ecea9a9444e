"""Compute the features of a dataset's images and write them as a table."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transferkit.bundle import ModelBundle, model_name
from transferkit.data.bad_images import readable_part
from transferkit.data.images import ImageFile, StoredImage
from transferkit.data.index import ImageIndex
from transferkit.data.scan import scan
from transferkit.errors import DataError, OptionError, OutputError
from transferkit.files import require_new, require_place
from transferkit.models.digests import tensors_digest
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.strategies import Strategy
from transferkit.network_outputs import features
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.other_commands import ExtractFeaturesOptions
from transferkit.options.shared import DEFAULT_BACKBONE, ClassifierOptions
from transferkit.places import Place, Url
from transferkit.recipes.shared.backbone import create_extractor, extractor_of
from transferkit.recipes.shared.compute_settings import resolve_compute, with_fitting_batches
from transferkit.recipes.shared.inputs import tell_layout
from transferkit.reporter import SILENT, LeftOut, Reporter
from transferkit.tables import format_of
from transferkit.tables.feature_table import FeatureFormat, FeatureTable, write_features
from transferkit.tables.spool import Spool

PARTIAL = ".partial"
"""Suffix of the folder of an unfinished extraction, which has the name of the output file."""


@dataclass(frozen=True)
class Extraction:
    """The result of an extraction.

    Attributes:
        output: The file that was written.
        shape: (N, D) for features; (N, ...) for maps.
        backbone: Name of the backbone.
        layer: Name of the layer; several names are separated by commas.
        left_out: Files of the dataset that are not in the table, with their reasons.
    """

    output: Place
    shape: tuple[int, ...]
    backbone: str
    layer: str
    left_out: tuple[LeftOut, ...]


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
    """
    kind: FeatureFormat = format_of(options.output, FeatureFormat, "--output")
    _require_new_output(options)
    index = scan(options.data, options.layout)
    tell_layout(index, reporter)
    extractor = _extractor(options, reporter)
    if len(extractor.shape) > 1 and not kind.holds_maps:
        raise OptionError(
            f"--pool none: a .{kind} file cannot hold maps, got the shape {extractor.shape}; write "
            ".npz or .safetensors, or use --pool flatten"
        )
    spool = _compute_features(options, index, extractor, reporter)
    try:
        readable = readable_part(index, spool.reasons, options.on_bad_image)
    except DataError:
        spool.remove()
        raise
    table = _feature_table(spool, readable, extractor)
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
    assert isinstance(options.output, Path)  # the options have checked it
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


def _feature_table(spool: Spool, readable: ImageIndex, extractor: FeatureExtractor) -> FeatureTable:
    network = extractor.network
    return FeatureTable(
        features=spool.rows,
        labels=readable.labels,
        label_names=readable.class_names,
        paths=readable.paths,
        columns=extractor.columns,
        backbone=network.name,
        layer=",".join(extractor.layers),
        pool=str(extractor.pool),
        preprocessing=network.preprocessing.to_config(),
    )


def _extractor(options: ExtractFeaturesOptions, reporter: Reporter) -> FeatureExtractor:
    if not options.model:
        backbone = options.backbone or DEFAULT_BACKBONE
        return create_extractor(options, reporter, backbone=backbone, weights=options.weights)
    bundle = ModelBundle.load(options.model)
    if bundle.head is None:
        return extractor_of(bundle.network, options)
    return extractor_of(bundle.network, options, layers=bundle.head.layers, pool=bundle.head.pool)


def _require_new_output(options: ExtractFeaturesOptions) -> None:
    require_new(options.output, overwrite=options.overwrite)
    require_place(options.output)
    if _partial(options).exists() and not (options.resume or options.overwrite):
        raise OutputError(
            f"{_partial(options)}: holds an unfinished extraction; continue it with --resume, or "
            "start over with --overwrite"
        )


def _partial(options: ExtractFeaturesOptions) -> Path:
    """Return the folder of unfinished rows; for a file in a store, it is in the working folder."""
    name = options.output.name + PARTIAL
    return Path(name) if isinstance(options.output, Url) else options.output.with_name(name)


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
    identity = _identity(index, extractor) | {
        "precision": compute.precision,
        "engine": compute.engine,
    }
    spool = Spool.open(_partial(options), identity, extractor.shape, resume=options.resume)
    start = spool.done
    try:
        with reporter.progress("extracting", len(index)) as progress:
            progress.advance(start)
            for part in features(extractor, index.files[start:], compute):
                spool.add(part.values, {start + row: why for row, why in part.failures})
                progress.advance(len(part.rows) + len(part.failures))
    except KeyboardInterrupt:
        reporter.notice(f"{spool.done} of {len(index)} images are done; continue with --resume")
        raise
    return spool


def _identity(index: ImageIndex, extractor: FeatureExtractor) -> dict[str, Any]:
    """Return everything that the rows depend on."""
    files = hashlib.sha256()
    for name, file in zip(index.paths, index.files, strict=True):
        files.update(f"{name}\t{_size_and_time(file)}\n".encode("utf-8", "surrogateescape"))
    network = extractor.network
    return {
        "files": files.hexdigest(),
        "backbone": network.name,
        "model_args": network.model_args,
        "weights": tensors_digest(network.module.state_dict()),
        "layers": extractor.layers,
        "shape": extractor.shape,
        "pool": extractor.pool,
        "preprocessing": network.preprocessing.to_config(),
    }


def _size_and_time(file: ImageFile) -> str:
    """Return a file's size and modification time, or the like, which change when the file does."""
    if isinstance(file, StoredImage):
        return file.state
    try:
        status = file.stat()
    except OSError:
        return "cannot be looked at"  # reading it gives the reason
    return f"{status.st_size}\t{status.st_mtime_ns}"
