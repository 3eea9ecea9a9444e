"""Networks without pretrained weights: random, or filled at almost no cost."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from transferkit.models.create_network import create_network
from transferkit.models.network import Network

NUMBERS = torch.randn(10_007, generator=torch.Generator().manual_seed(0))


def tiled(shape: torch.Size) -> Tensor:
    """Return a tensor of standard deviation 1 that repeats a few random numbers."""
    count = shape.numel()
    return NUMBERS.repeat(-(-count // len(NUMBERS)))[:count].view(shape)


class Undrawn(TorchFunctionMode):
    """Set weights to zero instead of drawing them."""

    DRAWING = (
        *(Tensor.uniform_, Tensor.normal_),
        *(nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_),
    )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func not in self.DRAWING:
            return func(*args, **given)
        drawn = args[0] if args else given["tensor"]
        drawn.detach().zero_()
        return drawn


def create_undrawn(name: str, **options: object) -> Network:
    """Return a network whose weights are zero, for tests of its structure."""
    with Undrawn():
        return create_network(name, weights="none", **options)


@torch.no_grad()
def create_tiled(name: str, **options: object) -> Network:
    """Return a network whose weights repeat a few random numbers.

    Weights of layers have a standard deviation of 1 / sqrt(inputs), biases one of 0.02.
    Parameters that start as a constant, such as the scales of norms, keep it.
    """
    network = create_undrawn(name, **options)
    for key, parameter in network.module.named_parameters():
        if parameter.ndim > 1:
            parameter.copy_(tiled(parameter.shape)).mul_(parameter[0].numel() ** -0.5)
        elif key.endswith("bias"):
            parameter.copy_(tiled(parameter.shape)).mul_(0.02)
    return network


@torch.no_grad()
def create_random(name: str, size: int, **changes: object) -> Network:
    """Return a network with five outputs, random weights and random norm statistics."""
    torch.manual_seed(0)
    weights = "pretrained" if name == "edges8" else "none"
    network = create_network(name, weights=weights, num_classes=5, image_size=size, **changes)
    for key, buffer in network.module.named_buffers():  # not the initial 0 and 1
        if key.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn_like(buffer))
        elif key.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand_like(buffer))
    return network
