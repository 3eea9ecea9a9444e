"""Build a network from its name: look it up, build it, load its weights."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.models import create_model
from torchvision.models import ResNet18_Weights

from transferkit.data.preprocessing import (
    ImageSize,
    Preprocessing,
    both_sides,
    describe_size,
)
from transferkit.errors import OptionError, UnknownNameError, WeightsError
from transferkit.models import NO_WEIGHTS, PRETRAINED
from transferkit.models.backbone_lookup import SOURCES, Origin, find_backbone
from transferkit.models.building import without_drawing
from transferkit.models.network import Network
from transferkit.models.packaged_weights import translate_names
from transferkit.models.timm_source import TIMM
from transferkit.models.weights import fit_weights, translate_layout
from transferkit.models.weights_file import State

_OF_PUBLISHED_WEIGHTS = (
    *("tag", "license", "description", "origin_url", "paper_name", "paper_ids", "notes"),
    *("label_names", "label_descriptions", "transferkit"),
)
"""Keys of a configuration that describe the published weights only."""


def create_network(
    name: str,
    *,
    weights: str | Path = PRETRAINED,
    num_classes: int | None = None,
    image_size: ImageSize | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> Network:
    """Build a backbone with its weights and with its own or a new head.

    Args:
        name: Name as the command line takes it.
        weights: `pretrained`, `none`, or the path of a weights file.
        num_classes: Width of a new, untrained head; None keeps the pretrained head.
        image_size: Size of the input in pixels; None for the backbone's default.
        model_args: Further arguments that build it.

    Raises:
        UnknownNameError: When there is no such backbone.
        WeightsError: When the weights cannot be fetched or do not fit.
        OptionError: When the network cannot be built for that image size.
    """
    origin = find_backbone(name)
    if str(weights) != PRETRAINED:
        config = {k: v for k, v in origin.config.items() if k not in _OF_PUBLISHED_WEIGHTS}
        origin = replace(origin, config=config)
    if model_args:
        origin = replace(origin, model_args={**origin.model_args, **model_args})
    path = _weights_file(origin, weights)
    with without_drawing() if path else nullcontext():
        network = _build(origin, image_size)
    if path:
        layouts = (
            lambda state: translate_names(state, path, network),
            lambda state: _timm_translation(network, state),
            lambda state: _other_library_translation(network, state),
        )
        note = fit_weights(network, path, keep_head=num_classes is None, layouts=layouts)
        network = replace(network, weights_note=note)
    return network if num_classes is None else network.with_new_head(num_classes)


def _weights_file(origin: Origin, weights: str | Path) -> Path | None:
    """Return the weights file to load; None if the network keeps the weights it is built with."""
    if origin.source.by_formula and not (origin.folder or origin.repository):
        if str(weights) != PRETRAINED:
            raise OptionError(
                f"--weights: {origin.name} is computed by formula and takes no weights; leave the "
                "option out"
            )
        return None
    if str(weights) == NO_WEIGHTS:
        return None
    return origin.weights_file() if str(weights) == PRETRAINED else Path(weights)


def _build(origin: Origin, image_size: ImageSize | None) -> Network:
    args, config = dict(origin.model_args), dict(origin.config)
    if image_size is not None:
        if config.get("fixed_input_size") and origin.source is TIMM:
            args["img_size"] = image_size
        channels, *_ = Preprocessing.from_config(config).input_size
        config["input_size"] = (channels, *both_sides(image_size))
    try:
        network = origin.source.build(origin.architecture, args, config)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = f"({' '.join(str(error).split())[:200]})"
        if image_size is not None:
            raise OptionError(
                f"--image-size: {origin.name} cannot be built for {describe_size(image_size)} px "
                f"{reason}; leave the option out or try another size"
            ) from error
        if origin.model_args or origin.folder or origin.repository:
            raise WeightsError(
                f"{origin.name} cannot be built with input_size {config.get('input_size')} and "
                f"model_args {json.dumps(dict(origin.model_args))} {reason}; fix config.json"
            ) from error
        raise
    if image_size is not None:
        network.check_input_size()
    return network


def _timm_translation(network: Network, state: State) -> State | None:
    """Return the weights as timm's own filter for this architecture reads them."""
    if network.source is not TIMM:
        return None
    try:
        module = create_model(
            network.architecture,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": state, "num_classes": network.num_classes},
            num_classes=network.num_classes,
            **network.model_args,
        )
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError):
        # timm does not know this layout for this architecture; the next translation may.
        return None
    return dict(module.state_dict())


def _other_library_translation(network: Network, state: State) -> State | None:
    """Return the weights translated from another library's build of the same architecture."""
    for source in SOURCES:
        if source is not network.source and network.architecture in source.names():
            config = {**network.config, "num_classes": network.num_classes}
            other = source.build(network.architecture, {}, config)
            translated = translate_layout(state, other, network)
            if translated is not None:
                return translated
    return None


def categories(network: Network) -> tuple[str, ...]:
    """Return the names of a pretrained network's categories, in the order of its outputs.

    The thousand categories of ImageNet have torchvision's names, which are distinct; those of
    larger ImageNets have timm's descriptions.

    Raises:
        UnknownNameError: When the meaning of the outputs is not known.
    """
    if not network.heads or not network.num_classes:
        raise UnknownNameError(
            "set of categories",
            network.name,
            [],
            "it has no head; finetune it first, or name a run with -m",
        )
    if names := network.config.get("label_names"):
        return tuple(names)
    if network.num_classes == 1000:
        return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
    subset = infer_imagenet_subset({**network.config, "num_classes": network.num_classes})
    if subset is None:
        raise UnknownNameError("set of categories", network.name, [], "predict with -m RUN instead")
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(network.num_classes))
