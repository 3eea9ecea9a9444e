"""Create backbones and feature extractors from options."""

from collections.abc import Sequence

import torch

from transferkit.errors import OptionError
from transferkit.models import EDGES8
from transferkit.models.create_network import create_network
from transferkit.models.feature_extractor import POOLED, FeatureExtractor, Pool
from transferkit.models.network import Network
from transferkit.models.stages import HEAD
from transferkit.options.dataset_options import FeatureOptions
from transferkit.reporter import SILENT, Reporter
from transferkit.training.randomness import seeded


def create_backbone(
    options: FeatureOptions,
    reporter: Reporter,
    *,
    backbone: str,
    weights: str,
    num_classes: int | None,
) -> Network:
    """Return a backbone with the given options; random weights are drawn from their seed.

    Args:
        options: Image size, resizing method, patches and seed.
        reporter: Receives a notice of what was read of a weights file, if it left a choice.
        backbone: Name of the backbone.
        weights: A value that `--weights` takes.
        num_classes: Width of a new head; 0 for no head, None for the pretrained head.

    Raises:
        UnknownNameError: When there is no such backbone.
        WeightsError: When the backbone's weights are not available or do not fit.
        OptionError: When an option cannot work with this backbone.
    """
    if options.patches is not None and backbone != EDGES8:
        raise OptionError(f"--patches is for -b {EDGES8}, not for {backbone}")
    with seeded(options.seed, torch.device("cpu")):
        network = create_network(
            backbone,
            weights=weights,
            num_classes=num_classes,
            image_size=options.image_size,
            model_args={} if options.patches is None else {"patches": options.patches},
        )
    preprocessing = network.preprocessing.changed(
        image_size=options.image_size, resize=options.resize
    )
    tell_weights_note(network, reporter)
    return network.with_preprocessing(preprocessing)


def tell_weights_note(network: Network, reporter: Reporter) -> None:
    """Report what was read of a network's weights file, if the file left a choice."""
    if network.weights_note:
        reporter.notice(network.weights_note)


def create_extractor(
    options: FeatureOptions, reporter: Reporter, *, backbone: str, weights: str
) -> FeatureExtractor:
    """Return the extractor of a backbone, which keeps its head only if a layer is part of it.

    Raises:
        UnknownNameError: When there is no such backbone or layer.
        WeightsError: When the backbone's weights are not available or do not fit.
        OptionError: When an option cannot work with this backbone.
    """
    network = create_backbone(options, reporter, backbone=backbone, weights=weights, num_classes=0)
    if _in_head(network, options.layer):
        network = create_backbone(
            options, SILENT, backbone=backbone, weights=weights, num_classes=None
        )
    return extractor_of(network, options)


def extractor_of(
    network: Network,
    options: FeatureOptions,
    *,
    layers: Sequence[str] = (POOLED,),
    pool: Pool = Pool.AUTO,
) -> FeatureExtractor:
    """Return the extractor of a network; `layers` and `pool` apply where the options are unset."""
    preprocessing = network.preprocessing.changed(
        image_size=options.image_size, resize=options.resize
    )
    network = network.with_preprocessing(preprocessing)
    return FeatureExtractor(network, tuple(options.layer or layers), options.pool or pool)


def _in_head(network: Network, layers: Sequence[str]) -> bool:
    """Return whether one of the layers is in the head, or contains part of it."""
    pairs = ((layer, head) for layer in layers for head in (HEAD, *network.heads))
    return any(
        layer == head or layer.startswith(f"{head}.") or head.startswith(f"{layer}.")
        for layer, head in pairs
    )
