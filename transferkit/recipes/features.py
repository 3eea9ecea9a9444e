"""The features that options describe, for extraction and for the strategy `features`."""

from collections.abc import Sequence

import torch

from transferkit.models.backbones import create_network
from transferkit.models.features import POOLED, FeatureExtractor, Pool
from transferkit.models.network import Network
from transferkit.models.stages import HEAD
from transferkit.recipes.options import FeatureOptions


def create_extractor(options: FeatureOptions, *, backbone: str, weights: str) -> FeatureExtractor:
    """The extractor of a named backbone, which keeps its head only where a layer is in it.

    Raises:
        UnknownNameError: When there is no such backbone or layer.
        WeightsError: When the backbone's weights cannot be had or do not fit.
        OptionError: When an option cannot work with this backbone.
    """

    def create(num_classes: int | None) -> Network:
        torch.manual_seed(options.seed)
        return create_network(
            backbone,
            weights=weights,
            num_classes=num_classes,
            image_size=options.image_size,
            model_args={} if options.patches is None else {"patches": options.patches},
        )

    network = create(0)
    if _in_head(network, options.layer):
        network = create(None)
    return extractor_of(network, options)


def extractor_of(
    network: Network,
    options: FeatureOptions,
    *,
    layers: Sequence[str] = (POOLED,),
    pool: Pool = Pool.AUTO,
) -> FeatureExtractor:
    """The extractor of a network; `layers` and `pool` hold where the options do not say."""
    preprocessing = network.preprocessing.changed(
        image_size=options.image_size, resize=options.resize
    )
    network = network.with_preprocessing(preprocessing)
    return FeatureExtractor(network, tuple(options.layer or layers), options.pool or pool)


def _in_head(network: Network, layers: Sequence[str]) -> bool:
    heads = (HEAD, *network.heads)
    return any(layer in heads or layer.startswith(f"{head}.") for layer in layers for head in heads)
