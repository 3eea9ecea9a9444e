"""Access to the feature maps of layers, to read them and to take gradients with respect to them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transferkit.models.feature_extractor import HookPoint, stage_hook_points
from transferkit.models.grids import Grid, find_grid
from transferkit.models.network import Network
from transferkit.models.stages import HEAD


@dataclass(frozen=True)
class LayerView:
    """A layer, and how its output is laid out over the image."""

    point: HookPoint
    grid: Grid


def find_views(
    network: Network, points: Mapping[str, HookPoint], compute: Callable[[Tensor], Tensor]
) -> dict[str, LayerView]:
    """Return the layers whose feature maps affect the network's output.

    A layer affects the output if a random sum of the output for a noise image has a gradient with
    respect to its map. In a network whose head reads the class token alone, the other tokens do not
    affect the output after the last attention.

    Args:
        network: A network in eval mode.
        points: Layer -> where its values can be read.
        compute: Images to the network's output, (B, D).

    Returns:
        Layer -> its view, in the order of `points`.
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
    # Windowed attention passes more than one row per image to its inner modules.
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
    """Return the stages whose feature maps affect the network's output, first to last.

    See `find_views`. Where the map is pooled before the next stage begins, the output of the
    stage's last module counts as the stage's output.
    """
    points = stage_hook_points(network)
    stages = [stage for stage in network.stages if stage.name != HEAD and stage.name in points]
    views = find_views(network, {stage.name: points[stage.name] for stage in stages}, compute)
    ends = {s.name: HookPoint(s.modules[-1], is_input=False) for s in stages if s.name not in views}
    modules = {name for name, _ in network.module.named_modules()}
    views |= find_views(network, {n: at for n, at in ends.items() if at.module in modules}, compute)
    return {stage.name: views[stage.name] for stage in stages if stage.name in views}


def _noise(like: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(like.shape, generator=random).to(like.device, like.dtype)


@contextmanager
def seen_through(window: nn.Module, module: nn.Module, view: LayerView) -> Iterator[None]:
    """Pass a layer's map through `window` as (B, C, height, width), and begin gradients there.

    The layers before it may be computed without gradient, which takes a fraction of the memory.

    Args:
        window: An identity module; hooks on it receive the map.
        module: The network that contains the layer.
        view: The layer.
    """

    def change(values: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # the caller's `no_grad` block restores it at its end
        maps = window(view.grid.to_map(values).detach().requires_grad_())
        return view.grid.with_map(values, maps)

    with _changing(module, {view.point: change}):
        yield


@contextmanager
def _changing(
    module: nn.Module, changes: Mapping[HookPoint, Callable[[Tensor], Tensor]]
) -> Iterator[None]:
    """Replace the tensors at some points by what a function returns for them."""

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
                target.register_forward_pre_hook if point.is_input else target.register_forward_hook
            )
            handles.append(register(hook(change, point.is_input)))
        yield
    finally:
        for handle in handles:
            handle.remove()
