"""Layers that put out a map or tokens, opened so that their map can be seen and led back to."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transferkit.models.feature_extractor import Point, stage_points
from transferkit.models.grids import Grid, find_grid
from transferkit.models.network import Network
from transferkit.models.stages import HEAD


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
    # Attention in windows hands more than a row a picture to the modules inside.
    names = [n for n in points if n in seen and len(seen[n]) == 1 and seen[n].requires_grad]
    if not names:
        return {}
    total = (out * _noise(out)).sum()
    gradients = torch.autograd.grad(total, [seen[n] for n in names], allow_unused=True)
    _, height, width = network.preprocessing.input_size
    views = {}
    for name, gradient in zip(names, gradients, strict=True):
        grid = find_grid(seen[name], network.layout, (height, width))
        if grid and gradient is not None and grid.to_map(gradient).any():
            views[name] = LayerView(points[name], grid)
    return views


def find_stage_views(network: Network, compute: Callable[[Tensor], Tensor]) -> dict[str, LayerView]:
    """Those stages whose positions change what comes out, first to last; see `find_views`.

    Where the picture is pooled before the next stage begins, what the last module of a stage puts
    out is taken for its output.
    """
    points = stage_points(network)
    stages = [stage for stage in network.stages if stage.name != HEAD and stage.name in points]
    views = find_views(network, {stage.name: points[stage.name] for stage in stages}, compute)
    ends = {s.name: Point(s.modules[-1], entering=False) for s in stages if s.name not in views}
    modules = {name for name, _ in network.module.named_modules()}
    views |= find_views(network, {n: at for n, at in ends.items() if at.module in modules}, compute)
    return {stage.name: views[stage.name] for stage in stages if stage.name in views}


def _noise(like: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(like.shape, generator=random).to(like.device, like.dtype)


@contextmanager
def seen_through(window: nn.Module, module: nn.Module, view: LayerView) -> Iterator[None]:
    """Let a layer's map pass through `window`, as (B, C, height, width), and begin gradients there.

    What is before the layer may be computed without gradient, which takes a fraction of the memory.

    Args:
        window: Gives what it is given; hooks on it see the map.
        module: The network that the layer is part of.
        view: The layer.
    """

    def change(values: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # until whoever computes without gradient is done
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
