"""What an extraction computes: with which extractor, of which files, and the table of its rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.bundle import ModelBundle
from transferkit.data.images import ImageFile, StoredImage
from transferkit.data.index import ImageIndex
from transferkit.errors import OptionError
from transferkit.models.digests import tensors_digest
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.options.extract_features import ExtractFeaturesOptions
from transferkit.options.shared import DEFAULT_BACKBONE
from transferkit.places import Place
from transferkit.recipes.shared.backbone import create_extractor, extractor_of
from transferkit.reporter import LeftOut, Reporter
from transferkit.tables.feature_table import FeatureFormat, FeatureTable, Rows


@dataclass(frozen=True)
class Extraction:
    """The result of an extraction.

    Attributes:
        output: The file or the folder that was written.
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


def choose_extractor(
    options: ExtractFeaturesOptions, reporter: Reporter, kind: FeatureFormat
) -> FeatureExtractor:
    """Return the extractor that the options describe, for a table of some format.

    Raises:
        UnknownNameError: When there is no such backbone or layer.
        WeightsError: When the backbone's weights are not available.
        BundleError: When the model cannot be loaded.
        OptionError: When an option cannot work with this backbone, or the format holds no maps.
    """
    extractor = _extractor(options, reporter)
    if len(extractor.shape) > 1 and not kind.holds_maps:
        raise OptionError(
            f"--pool none: a .{kind} file cannot hold maps, got the shape {extractor.shape}; write "
            ".npz or .safetensors, or use --pool flatten"
        )
    return extractor


def _extractor(options: ExtractFeaturesOptions, reporter: Reporter) -> FeatureExtractor:
    if not options.model:
        backbone = options.backbone or DEFAULT_BACKBONE
        return create_extractor(options, reporter, backbone=backbone, weights=options.weights)
    bundle = ModelBundle.load(options.model)
    if bundle.head is None:
        return extractor_of(bundle.network, options)
    return extractor_of(bundle.network, options, layers=bundle.head.layers, pool=bundle.head.pool)


def feature_table(
    features: Rows,
    paths: Sequence[str],
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    extractor: FeatureExtractor,
) -> FeatureTable:
    """Return the table of an extractor's features.

    Args:
        features: (N, ...) float32.
        paths: N paths relative to the dataset's folder.
        labels: (N,) positions in `class_names`.
        class_names: Names of the classes.
        extractor: What computed the features.
    """
    network = extractor.network
    return FeatureTable(
        features=features,
        labels=labels,
        label_names=class_names,
        paths=tuple(paths),
        columns=extractor.columns,
        backbone=network.name,
        layer=",".join(extractor.layers),
        pool=str(extractor.pool),
        preprocessing=network.preprocessing.to_config(),
    )


def identity(index: ImageIndex, extractor: FeatureExtractor) -> dict[str, Any]:
    """Return what the rows depend on, whatever computes them, as JSON values."""
    files = hashlib.sha256()
    for name, label, file in zip(index.paths, index.labels, index.files, strict=True):
        # A table may give the same image another label.
        text = f"{name}\t{index.class_names[label]}\t{_size_and_time(file)}\n"
        files.update(text.encode("utf-8", "surrogateescape"))
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
        return f"{file.size}\t{file.state}"
    try:
        status = file.stat()
    except OSError:
        return "cannot be looked at"  # reading it gives the reason
    return f"{status.st_size}\t{status.st_mtime_ns}"
