"""Turn a dataset of images into a table of features."""

import torch

from transferkit.bundle import ModelBundle
from transferkit.data.index import scan
from transferkit.errors import OutputError
from transferkit.files import require_place
from transferkit.inference import collect, features
from transferkit.models.backbones import create_network
from transferkit.models.network import Network
from transferkit.recipes.compute import create_pass, readable_part
from transferkit.recipes.options import ExtractFeaturesOptions
from transferkit.reporting import SILENT, Reporter
from transferkit.tables import FeatureFormat, FeatureTable, format_of, write_features

_POOLED = "pooled"


def extract_features(options: ExtractFeaturesOptions, reporter: Reporter = SILENT) -> FeatureTable:
    """Compute what enters the head for every image of a dataset, and write it.

    Returns:
        The table, its rows in the order of the index.

    Raises:
        DataError: When there are no images, or none can be read.
        WeightsError: When the backbone's weights cannot be had.
        OutputError: When the file is there already or cannot be written.
    """
    kind: FeatureFormat = format_of(options.output, FeatureFormat, "--output")
    if options.output.exists() and not options.overwrite:
        raise OutputError(
            f"{options.output}: is there already; name another file, or replace it with --overwrite"
        )
    require_place(options.output)
    index = scan(options.data)
    network = _network(options)
    how = create_pass(options, network)
    with reporter.progress("extracting", len(index)) as progress:
        parts = features(network, index.files, how)
        table = collect(parts, len(index), network.feature_dim, progress.advance)
    readable = readable_part(index, table)
    result = FeatureTable(
        features=table.values[table.readable],
        labels=readable.labels,
        label_names=readable.class_names,
        paths=readable.paths,
        backbone=network.name,
        layer=_POOLED,
        preprocessing=network.preprocessing.to_config(),
        left_out=readable.left_out,
    )
    write_features(result, options.output, kind)
    reporter.left_out(result.left_out)
    return result


def _network(options: ExtractFeaturesOptions) -> Network:
    if options.model:
        network = ModelBundle.load(options.model).network
    else:
        torch.manual_seed(options.seed)
        network = create_network(
            options.backbone or "resnet18", weights=options.weights, image_size=options.image_size
        )
    preprocessing = network.preprocessing.changed(
        image_size=options.image_size, resize=options.resize
    )
    return network.with_preprocessing(preprocessing)
