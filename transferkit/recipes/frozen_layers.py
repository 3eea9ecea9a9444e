"""Frozen layers as they are computed: without gradient, fast, and known by what they depend on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from transferkit.data.augment import Augment
from transferkit.data.dataset import Dataset
from transferkit.data.views import Views
from transferkit.frozen import FrozenLayers
from transferkit.inference import Pass, fast_extractor, fast_module
from transferkit.models.features import FeatureExtractor
from transferkit.models.network import Network
from transferkit.models.splitting import Split
from transferkit.models.weights import tensors_digest


def frozen_prefix(network: Network, parts: Split, how: Pass) -> FrozenLayers:
    """The part of a network before everything that is trained."""
    module, dtype = fast_module(parts.prefix, network.blank_image(), how)
    identity = _identity(network, parts.prefix, how) | {
        "what": f"{network.name}, what is frozen",
        "code": parts.prefix.code,
    }
    return FrozenLayers(
        _without_gradient(module, how, dtype), how.device, parts.shape, dtype, identity
    )


def frozen_features(extractor: FeatureExtractor, how: Pass) -> FrozenLayers:
    """Features at some layers, float32."""
    network, fast = extractor.network, fast_extractor(extractor, how)
    identity = _identity(network, network.module, how) | {
        "what": f"{network.name}, {', '.join(extractor.layers)} pooled by {extractor.pool}",
        "layers": list(extractor.layers),
        "pool": str(extractor.pool),
    }
    compute = _without_gradient(fast, how, fast.network.dtype)
    return FrozenLayers(
        lambda images: compute(images).float(),
        how.device,
        extractor.shape,
        torch.float32,
        identity,
    )


def plain_views(dataset: Dataset, network: Network, how: Pass) -> Views:
    """A dataset's pictures as validation and prediction see them."""
    return Views(
        files=dataset.index.files,
        names=dataset.sha256,
        preprocessing=network.preprocessing,
        augment=Augment.NONE,
        seed=0,
        batch_size=how.batch_size,
        workers=how.workers,
        allow_truncated=how.allow_truncated,
    )


def pictures_themselves(network: Network) -> FrozenLayers:
    """No layers at all: what a network reads that is trained from its first layer on."""
    size = network.preprocessing.input_size
    return FrozenLayers(lambda images: images, network.device, size, torch.float32, {})


def _without_gradient(
    compute: Callable[[Tensor], Tensor], how: Pass, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    # Not in inference mode: what comes out enters layers that are trained.
    @torch.no_grad()
    def apply(images: Tensor) -> Tensor:
        with how.autocast_for(dtype):
            return compute(images.to(dtype)).to(dtype)

    return apply


def _identity(network: Network, module: nn.Module, how: Pass) -> dict[str, Any]:
    return {
        "backbone": network.name,
        "model_args": dict(network.model_args),
        "weights": tensors_digest(module.state_dict()),
        "precision": str(how.precision),
        "device": how.device.type,
    }
