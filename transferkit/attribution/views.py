"""Layers that put out a map or tokens, opened so that their map can be seen and led back to."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transferkit.attribution.grids import Grid, find_grid
from transferkit.models.features import Point
from transferkit.models.network import Network


@dataclass(frozen=True)
class LayerView:
    """A layer, and how what it puts out lies in the picture."""

    point: Point
    grid: Grid


def find_views(
    network: Network, points: Mapping[str, Point], compute: Callable[[Tensor], Tensor]
) -> dict[str, LayerView]:
    """Those of some layers whose positions change what comes out.

    A picture of noise goes through, and a random sum of what comes out is led back. Where a
    network reads the class token alone, the other tokens have no say behind the last attention.

    Args:
        network: In eval mode.
        points: Layer -> where its values can be seen.
        compute: Pictures to what comes out of the network, (B, D).

    Returns:
        In the order of `points`.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Tensor], Tensor]:
        def change(values: Tensor) -> Tensor:
            seen[name] = values
            return values

        return change

    image = _noise(network.blank_image()).requires_grad_()
    with _changing(network.module, {point: keep(name) for name, point in points.items()}):
        out = compute(image)
    names = [name for name in points if name in seen and seen[name].requires_grad]
    total = (out * _noise(out)).sum()
    gradients = torch.autograd.grad(total, [seen[n] for n in names], allow_unused=True)
    views = {}
    for name, gradient in zip(names, gradients, strict=True):
        height, width = image.shape[2:]
        grid = (
            find_grid(seen[name], network.layout, (height, width)) if len(seen[name]) == 1 else None
        )
        if grid and gradient is not None and grid.to_map(gradient).any():
            views[name] = LayerView(points[name], grid)
    return views


def _noise(like: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(like.shape, generator=random).to(like.device, like.dtype)


@contextmanager
def seen_through(window: nn.Module, module: nn.Module, view: LayerView) -> Iterator[None]:
    """Let a layer's map pass through `window`, as (B, C, height, width), and begin gradients there.

    Args:
        window: Gives what it is given; hooks on it see the map.
        module: The network that the layer is part of.
        view: The layer.
    """

    def change(values: Tensor) -> Tensor:
        maps = window(view.grid.to_map(values).detach().requires_grad_())
        return view.grid.with_map(values, maps)

    with _changing(module, {view.point: change}):
        yield


@contextmanager
def _changing(
    module: nn.Module, changes: Mapping[Point, Callable[[Tensor], Tensor]]
) -> Iterator[None]:
    """Put what functions give in place of the tensors at some points."""

    def hook(change: Callable[[Tensor], Tensor], entering: bool) -> Callable[..., Any]:
        def before(_: nn.Module, args: tuple[Any, ...]) -> Any:
            if args and isinstance(args[0], Tensor):
                return (change(args[0]), *args[1:])
            return None

        def after(_: nn.Module, __: object, output: object) -> Any:
            return change(output) if isinstance(output, Tensor) else None

        return before if entering else after

    handles = []
    try:
        for point, change in changes.items():
            target = module.get_submodule(point.module)
            register = (
                target.register_forward_pre_hook if point.entering else target.register_forward_hook
            )
            handles.append(register(hook(change, point.entering)))
        yield
    finally:
        for handle in handles:
            handle.remove()
