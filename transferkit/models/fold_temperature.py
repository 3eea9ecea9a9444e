"""Fold a temperature into a network's head, so that whoever runs it needs to know nothing of it."""

import torch
from torch import Tensor

from transferkit.errors import TransferKitError
from transferkit.models.network import Network

_TOLERANCE = 1e-3
"""Largest accepted distance of the folded logits from the expected ones, relative to them."""


@torch.no_grad()
def fold_temperature(network: Network, temperature: float) -> None:
    """Divide a network's logits by a temperature, by dividing the weights of its last layer.

    The weights are changed in place, and only if that divides the logits.

    Args:
        network: In eval mode.
        temperature: Above 0.

    Raises:
        TransferKitError: When the logits are not proportional to the head's weights.
    """
    random = torch.Generator().manual_seed(0)
    images = torch.randn(2, *network.preprocessing.input_size, generator=random)
    images = images.to(network.device, network.dtype)
    expected = network.module(images) / temperature
    weights = [weight for layer in network.last_layers for weight in layer.parameters()]
    before = [weight.clone() for weight in weights]
    for weight in weights:
        weight.div_(temperature)
    if _is_close(network.module(images), expected):
        return
    for weight, old in zip(weights, before, strict=True):
        weight.copy_(old)
    raise TransferKitError(
        f"{network.name}: its logits are not proportional to the weights of its head"
    )


def _is_close(logits: Tensor, expected: Tensor) -> bool:
    scale = expected.abs().amax().clamp(min=torch.finfo(expected.dtype).tiny)
    return bool((logits - expected).abs().amax() <= _TOLERANCE * scale)
