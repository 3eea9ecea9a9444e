"""Turn a dataset of images into a table of features."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transferkit.bundle import ModelBundle, model_name
from transferkit.data.bad_images import readable_part
from transferkit.data.index import ImageIndex, scan
from transferkit.errors import DataError, OptionError, OutputError
from transferkit.files import require_place
from transferkit.inference import features
from transferkit.models.digests import tensors_digest
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.phases import Strategy
from transferkit.options.commands import ExtractFeaturesOptions
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.shared import DEFAULT_BACKBONE, ClassifierOptions
from transferkit.recipes.shared.backbone import create_extractor, extractor_of
from transferkit.recipes.shared.compute_settings import resolve_compute
from transferkit.reporting import SILENT, LeftOut, Reporter
from transferkit.tables import format_of
from transferkit.tables.feature_table import FeatureFormat, FeatureTable, write_features
from transferkit.tables.spool import Spool

PARTIAL = ".partial"
"""What is added to a file's name for the folder of an unfinished extraction."""


@dataclass(frozen=True)
class Extraction:
    """What was written.

    Attributes:
        output: The file.
        shape: (N, D) of the features; (N, ...) of maps.
        backbone: What made them.
        layer: Where in it; several with commas between.
        left_out: What the dataset holds and the file does not.
    """

    output: Path
    shape: tuple[int, ...]
    backbone: str
    layer: str
    left_out: tuple[LeftOut, ...]


def extract_features(options: ExtractFeaturesOptions, reporter: Reporter = SILENT) -> Extraction:
    """Compute features of every image of a dataset, and write them in the order of the index.

    They go to disk as they come, so memory does not grow with their number; an interrupted
    extraction keeps them in a folder beside the output.

    Raises:
        DataError: When there are no images, or none can be read.
        UnknownNameError: When there is no such backbone or layer.
        WeightsError: When the backbone's weights cannot be had.
        OptionError: When an option cannot work with this backbone or format.
        OutputError: When the file is there already or cannot be written.
    """
    kind: FeatureFormat = format_of(options.output, FeatureFormat, "--output")
    _require_free(options)
    index = scan(options.data)
    extractor = _extractor(options)
    if len(extractor.shape) > 1 and not kind.holds_maps:
        raise OptionError(
            f"--pool none: a .{kind} file holds no maps of {extractor.shape}; write .npz or "
            ".safetensors, or --pool flatten"
        )
    spool = _compute(options, index, extractor, reporter)
    try:
        readable = readable_part(index, spool.reasons, options.on_bad_image)
    except DataError:
        spool.remove()
        raise
    network = extractor.network
    table = FeatureTable(
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
    write_features(table, options.output, kind)
    shape = spool.rows.shape
    spool.remove()
    reporter.left_out(readable.left_out)
    return Extraction(options.output, shape, network.name, table.layer, readable.left_out)


def to_finetune(options: ExtractFeaturesOptions) -> FinetuneOptions:
    """The same as options of `finetune`: with a classifier both commands do one thing.

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


def _extractor(options: ExtractFeaturesOptions) -> FeatureExtractor:
    if not options.model:
        backbone = options.backbone or DEFAULT_BACKBONE
        return create_extractor(options, backbone=backbone, weights=options.weights)
    bundle = ModelBundle.load(options.model)
    if bundle.head is None:
        return extractor_of(bundle.network, options)
    return extractor_of(bundle.network, options, layers=bundle.head.layers, pool=bundle.head.pool)


def _require_free(options: ExtractFeaturesOptions) -> None:
    require_place(options.output)
    if options.output.exists() and not options.overwrite:
        raise OutputError(
            f"{options.output}: is there already; name another file, or replace it with --overwrite"
        )
    if _partial(options).exists() and not (options.resume or options.overwrite):
        raise OutputError(
            f"{_partial(options)}: holds an unfinished extraction; go on with --resume, or begin "
            "anew with --overwrite"
        )


def _partial(options: ExtractFeaturesOptions) -> Path:
    return options.output.with_name(options.output.name + PARTIAL)


def _compute(
    options: ExtractFeaturesOptions,
    index: ImageIndex,
    extractor: FeatureExtractor,
    reporter: Reporter,
) -> Spool:
    """The features of all files, on disk; those of an earlier run are kept with --resume."""
    compute = resolve_compute(options, extractor.network, reporter)
    identity = _identity(index, extractor) | {"precision": compute.precision}
    spool = Spool.open(_partial(options), identity, extractor.shape, resume=options.resume)
    start = spool.done
    try:
        with reporter.progress("extracting", len(index)) as progress:
            progress.advance(start)
            for part in features(extractor, index.files[start:], compute):
                spool.add(part.values, {start + row: why for row, why in part.failures})
                progress.advance(len(part.rows) + len(part.failures))
    except KeyboardInterrupt:
        reporter.notice(f"{spool.done} of {len(index)} images are kept; go on with --resume")
        raise
    return spool


def _identity(index: ImageIndex, extractor: FeatureExtractor) -> dict[str, Any]:
    """What the rows depend on."""
    files = hashlib.sha256()
    for name, path in zip(index.paths, index.files, strict=True):
        files.update(f"{name}\t{_state(path)}\n".encode("utf-8", "surrogateescape"))
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


def _state(path: Path) -> str:
    """What tells a changed file from an unchanged one without reading it."""
    try:
        found = path.stat()
    except OSError:
        return "cannot be looked at"  # it becomes a row's reason when it is read
    return f"{found.st_size}\t{found.st_mtime_ns}"
