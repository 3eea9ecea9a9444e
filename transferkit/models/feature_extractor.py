"""Features of pictures: what any layer of a network puts out, pooled to a vector.

Needs no torch to be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, assert_never

from transferkit.errors import OptionError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from transferkit.models.network import Network

POOLED = "pooled"
"""The layer that is the last feature map, or the last tokens."""

PRELOGITS = "prelogits"
"""The layer that enters the head's last linear layer."""

_GEM_POWER = 3.0
_GEM_FLOOR = 1e-6


class Pool(StrEnum):
    """How the positions of a feature map become one vector.

    `auto`: the class token where the network has one, else the mean. `avg`, `max`: mean or maximum
    over positions. `gem`: generalised mean with power 3 (Radenovic, Tolias and Chum, Fine-tuning
    CNN image retrieval with no human annotation, 2018, equation 3). `flatten`: every position, one
    after another. `none`: the map as it is.
    """

    AUTO = "auto"
    AVG = "avg"
    MAX = "max"
    GEM = "gem"
    FLATTEN = "flatten"
    NONE = "none"


@dataclass(frozen=True)
class Point:
    """A place in a network: a module's output, or what enters it."""

    module: str
    entering: bool


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """Pictures to features at some layers of a network, in one pass.

    Attributes:
        network: The network; its head may be absent.
        layers: Names: `pooled`, `prelogits`, a stage or a module. Several are put side by side.
        pool: How maps and tokens become vectors; vectors stay as they are.

    Example:
        >>> FeatureExtractor(network, ("stage3", "pooled"))(images).shape  # doctest: +SKIP
        torch.Size([8, 768])
    """

    network: Network
    layers: tuple[str, ...] = (POOLED,)
    pool: Pool = Pool.AUTO

    def __post_init__(self) -> None:
        if self.pool is Pool.NONE and len(self.layers) > 1:
            raise OptionError("--pool none: maps of several layers cannot stand side by side")
        if len(set(self.layers)) < len(self.layers):
            raise OptionError(f"--layer: got {', '.join(self.layers)}, each once is enough")
        _ = self._last_tokens  # a pass of its own, not within another
        _ = self.shapes  # finds unknown layers before any work

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: (B, 3, H, W) float32, normalised.

        Returns:
            (B, D); with `--pool none` (B, ...) as the layer puts it out.
        """
        import torch

        parts = self._parts(images, self._pooled)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Compute each layer's map, tokens of no position left out; `pool` has no say.

        Args:
            images: (B, 3, H, W) float32, normalised.

        Returns:
            Layer -> (B, C, h, w); a vector is a map of one position.
        """
        return dict(zip(self.layers, self._parts(images, self._map), strict=True))

    @property
    def inner_modules(self) -> frozenset[str]:
        """Names of the modules that the layers look into."""
        return frozenset(point.module for point in self._points.values())

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """What each layer gives a picture, without the batch: (D,), or a map's shape."""
        import torch

        with torch.inference_mode():
            parts = self._parts(self.network.blank_image(), self._pooled)
        return tuple(tuple(part.shape[1:]) for part in parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """What a picture gives, without the batch."""
        return self.shapes[0] if len(self.shapes) == 1 else (sum(n for (n,) in self.shapes),)

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for each number of a vector: its layer and its place in it."""
        return tuple(
            f"{layer}_{i}"
            for layer, shape in zip(self.layers, self.shapes, strict=True)
            for i in range(_count(shape))
        )

    def _parts(self, images: Tensor, form: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """The output of each layer in a form, in the order of `layers`."""
        inside = [name for name in self.layers if name not in (POOLED, PRELOGITS)]
        points = self._points if inside else {}
        taken: dict[str, Tensor] = {}

        def take(name: str, value: object) -> None:
            taken[name] = form(_tensor(name, value, len(images)))

        with _hooked(self.network.module, {n: points[n] for n in inside}, take):
            last_map, prelogits = self.network.forward_parts(images, head=bool(inside))
        for name in self.layers:
            if name == POOLED:
                take(name, last_map)
            elif name == PRELOGITS:
                take(name, prelogits)
            elif name not in taken:
                raise OptionError(
                    f"--layer: {name} is part of {self.network.name} but no picture goes through "
                    "it; name another"
                )
        return [taken[name] for name in self.layers]

    @cached_property
    def _points(self) -> dict[str, Point]:
        """Where each layer's values can be seen."""
        inside = [name for name in self.layers if name not in (POOLED, PRELOGITS)]
        return find_points(self.network, inside, others=(POOLED, PRELOGITS))

    def _pooled(self, x: Tensor) -> Tensor:
        # Copies, since modules after this one may work in place.
        if x.ndim < 3 or self.pool is Pool.NONE:
            return x.clone().float()
        if self.pool is Pool.FLATTEN:
            return x.flatten(1).clone().float()
        if self.pool is Pool.AUTO and self.network.layout.class_token and self._has_prefix(x):
            return x[:, 0].clone().float()
        return _over_positions(self._positions(x).float(), self.pool)

    def _map(self, x: Tensor) -> Tensor:
        """(B, C, h, w) of a map, tokens or a vector."""
        from transferkit.models.grids import find_grid

        if x.ndim == 2 or (x.ndim == 4 and x.shape[1:].numel() == max(x.shape[1:])):
            return x.flatten(1)[:, :, None, None].clone().float()
        _, height, width = self.network.preprocessing.input_size
        grid = find_grid(x, self.network.layout, (height, width))
        if grid is None:
            raise OptionError(f"--layer: values of {tuple(x.shape[1:])} of {self.network.name} are "
                              "no map; name another")  # fmt: skip
        return grid.to_map(x).clone().float()

    def _has_prefix(self, x: Tensor) -> bool:
        """Whether tokens begin with those that stand for no position, as the last ones do."""
        return x.ndim == 3 and x.shape[1] == self._last_tokens

    @cached_property
    def _last_tokens(self) -> int:
        """How many tokens the last stage puts out; 0 where none stands for no position."""
        import torch

        if not self.network.layout.prefix_tokens and not self.network.layout.class_token:
            return 0
        with torch.inference_mode():
            last_map, _ = self.network.forward_parts(self.network.blank_image())
        return last_map.shape[1] if isinstance(last_map, torch.Tensor) and last_map.ndim == 3 else 0

    def _positions(self, x: Tensor) -> Tensor:
        """(B, positions, channels) of a map or of tokens."""
        if x.ndim == 3:
            return x[:, self.network.layout.prefix_tokens :] if self._has_prefix(x) else x
        from transferkit.models.grids import channels_are_last

        last = channels_are_last(x, self.network.layout)
        return x.flatten(1, 2) if last else x.flatten(2).transpose(1, 2)


def find_points(
    network: Network, names: Sequence[str], others: Sequence[str] = ()
) -> dict[str, Point]:
    """Where the values of stages and modules can be seen.

    Args:
        network: The network.
        names: Stages or modules; a stage goes before a module of its name.
        others: Layers that may be named besides, for the suggestions of the error.

    Raises:
        UnknownNameError: When the network has no such layer.
    """
    modules = {name for name, _ in network.module.named_modules() if name}
    known = {stage.name for stage in network.stages if stage.modules}
    stages = stage_points(network) if known & set(names) else {}
    points = {}
    for name in names:
        if name not in modules and name not in stages:
            raise UnknownNameError(
                "layer", name, [*others, *known, *modules],
                f"see: transferkit inspect {network.name}",
            )  # fmt: skip
        points[name] = stages.get(name) or Point(name, entering=False)
    return points


def stage_points(network: Network) -> dict[str, Point]:
    """Where each stage's output can be seen: it enters the first module of the next stage.

    The output of the last stage comes from the last of its modules that gives a map or tokens, so
    not from a norm behind the pooling, or else from the last.
    """
    begun, ended = _order_of_modules(network)
    points = {}
    *backbone, head = network.stages
    for stage, following in zip(backbone, [*backbone[1:], None], strict=True):
        if following is None:
            own = [name for name, _ in ended if _is_inside(name, stage.modules)]
            maps = [name for name, is_map in ended if is_map and name in own]
            if own:
                points[stage.name] = Point((maps or own)[-1], entering=False)
        elif first := next((n for n in begun if _is_inside(n, following.modules)), None):
            points[stage.name] = Point(first, entering=True)
    if head.modules:
        points[head.name] = Point(head.modules[-1], entering=False)
    return points


def _is_inside(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _order_of_modules(network: Network) -> tuple[list[str], list[tuple[str, bool]]]:
    """Names of the modules in the order in which a pass enters them, and in which it leaves them.

    Those left come with whether they put out more than one position.
    """
    import torch

    begun: list[str] = []
    ended: list[tuple[str, bool]] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: begun.append(name)

    def leave(name: str) -> Callable[..., None]:
        return lambda *seen: ended.append((name, _has_positions(seen[-1])))

    handles = []
    for name, module in network.module.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(enter(name)))
            handles.append(module.register_forward_hook(leave(name)))
    try:
        with torch.inference_mode():
            network.module(network.blank_image())
    finally:
        for handle in handles:
            handle.remove()
    return begun, ended


@contextmanager
def _hooked(
    module: nn.Module, points: dict[str, Point], take: Callable[[str, object], None]
) -> Iterator[None]:
    handles: list[Any] = []
    for name, point in points.items():
        target = module.get_submodule(point.module)
        if point.entering:
            handles.append(
                target.register_forward_pre_hook(
                    lambda _, args, n=name: take(n, args[0] if args else None)
                )
            )
        else:
            handles.append(target.register_forward_hook(lambda _, __, out, n=name: take(n, out)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _has_positions(value: object) -> bool:
    import torch

    if not isinstance(value, torch.Tensor) or value.ndim < 3:
        return False
    return value.shape[1] > 1 and value.shape[2:].numel() > 1


def _tensor(name: str, value: object, count: int) -> Tensor:
    import torch

    # Attention in windows hands more than a row a picture to the modules inside.
    if not isinstance(value, torch.Tensor) or not 2 <= value.ndim <= 4 or len(value) != count:
        raise OptionError(
            f"--layer: {name} puts out no feature map, tokens or vector of each picture; name "
            "another"
        )
    return value


def _over_positions(x: Tensor, pool: Pool) -> Tensor:
    """(B, positions, channels) to (B, channels)."""
    match pool:
        case Pool.AUTO | Pool.AVG:
            return x.mean(dim=1)
        case Pool.MAX:
            return x.amax(dim=1)
        case Pool.GEM:
            return x.clamp(min=_GEM_FLOOR).pow(_GEM_POWER).mean(dim=1).pow(1 / _GEM_POWER)
        case Pool.FLATTEN | Pool.NONE:
            raise ValueError(f"{pool} leaves the positions as they are")
        case _:
            assert_never(pool)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
