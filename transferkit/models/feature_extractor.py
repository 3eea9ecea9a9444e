"""Features of images: the output of any layer of a network, pooled to a vector.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, assert_never

from transferkit.errors import OptionError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from transferkit.models.network import Network

POOLED = "pooled"
"""Layer name for the last feature map, or the last tokens."""

PRELOGITS = "prelogits"
"""Layer name for the input of the head's last linear layer."""

_GEM_POWER = 3.0
_GEM_FLOOR = 1e-6


class Pool(StrEnum):
    """How the positions of a feature map become one vector.

    `auto`: the class token where the network has one, else the mean. `avg`, `max`: mean or maximum
    over positions. `gem`: generalised mean with power 3 (Radenovic, Tolias and Chum, Fine-tuning
    CNN image retrieval with no human annotation, 2018, equation 3). `flatten`: all positions, one
    after another. `none`: the map itself, unpooled.
    """

    AUTO = "auto"
    AVG = "avg"
    MAX = "max"
    GEM = "gem"
    FLATTEN = "flatten"
    NONE = "none"


@dataclass(frozen=True)
class HookPoint:
    """Where a hook can read a tensor of a network.

    Attributes:
        module: Name of the module that is hooked.
        is_input: Whether the tensor is the module's input; otherwise it is the output.
    """

    module: str
    is_input: bool


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """Computes the features of images at one or more layers of a network, in one pass.

    Attributes:
        network: The network; it may have no head.
        layers: Names: `pooled`, `prelogits`, stages or modules. Features of several layers are
            concatenated.
        pool: How maps and tokens become vectors; vectors are not changed.

    Example:
        >>> FeatureExtractor(network, ("stage3", "pooled"))(images).shape  # doctest: +SKIP
        torch.Size([8, 768])
    """

    network: Network
    layers: tuple[str, ...] = (POOLED,)
    pool: Pool = Pool.AUTO

    def __post_init__(self) -> None:
        if self.pool is Pool.NONE and len(self.layers) > 1:
            raise OptionError(
                "--pool none: maps of several layers cannot be joined; name one layer, or pool them"
            )
        if len(set(self.layers)) < len(self.layers):
            raise OptionError(f"--layer: got {', '.join(self.layers)}; name each layer once")
        _ = self._last_token_count  # runs a pass, which must not happen inside another one
        _ = self.shapes  # finds unknown layers before any work

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: (B, 3, H, W) float32, normalised.

        Returns:
            (B, D); with `--pool none` the layer's own (B, ...).
        """
        import torch

        parts = self._outputs(images, self._pooled)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Compute each layer's map, without prefix tokens; `pool` has no effect.

        Args:
            images: (B, 3, H, W) float32, normalised.

        Returns:
            Layer -> (B, C, h, w); a vector is a map of one position.
        """
        return dict(zip(self.layers, self._outputs(images, self._map), strict=True))

    @property
    def inner_modules(self) -> frozenset[str]:
        """Names of the modules whose inputs or outputs the layers are."""
        return frozenset(point.module for point in self._hook_points.values())

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each layer's features for one image: (D,), or a map's shape."""
        import torch

        with torch.inference_mode():
            parts = self._outputs(self.network.blank_image(), self._pooled)
        return tuple(tuple(part.shape[1:]) for part in parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features of one image."""
        return self.shapes[0] if len(self.shapes) == 1 else (sum(n for (n,) in self.shapes),)

    @property
    def columns(self) -> tuple[str, ...]:
        """Name of each element of the feature vector: its layer, and its index there."""
        return tuple(
            f"{layer}_{i}"
            for layer, shape in zip(self.layers, self.shapes, strict=True)
            for i in range(prod(shape))
        )

    def _outputs(self, images: Tensor, convert: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return the converted output of each layer, in the order of `layers`."""
        inside = [name for name in self.layers if name not in (POOLED, PRELOGITS)]
        points = self._hook_points if inside else {}
        outputs: dict[str, Tensor] = {}

        def store(name: str, value: object) -> None:
            outputs[name] = convert(_one_row_per_image(name, value, len(images)))

        with _hooked(self.network.module, {n: points[n] for n in inside}, store):
            parts = self.network.forward_parts(images, head=bool(inside))
        for name in self.layers:
            if name == POOLED:
                store(name, parts.last_map)
            elif name == PRELOGITS:
                store(name, parts.features)
            elif name not in outputs:
                raise OptionError(
                    f"--layer: {name} belongs to {self.network.name}, but no image passes through "
                    "it; name another layer"
                )
        return [outputs[name] for name in self.layers]

    @cached_property
    def _hook_points(self) -> dict[str, HookPoint]:
        """Where the values of each layer inside the network can be read."""
        inside = [name for name in self.layers if name not in (POOLED, PRELOGITS)]
        return find_hook_points(self.network, inside, others=(POOLED, PRELOGITS))

    def _pooled(self, x: Tensor) -> Tensor:
        # Copies, because later modules may work in place.
        if x.ndim < 3 or self.pool is Pool.NONE:
            return x.clone().float()
        if self.pool is Pool.FLATTEN:
            return x.flatten(1).clone().float()
        if self.pool is Pool.AUTO and self.network.layout.class_token and self._has_prefix(x):
            return x[:, 0].clone().float()
        return _pool_positions(self._positions(x).float(), self.pool)

    def _map(self, x: Tensor) -> Tensor:
        """Return a map, tokens or a vector as (B, C, h, w)."""
        from transferkit.models.grids import find_grid

        if x.ndim == 2 or (x.ndim == 4 and x.shape[1:].numel() == max(x.shape[1:])):
            return x.flatten(1)[:, :, None, None].clone().float()
        grid = find_grid(x, self.network.layout, self._image_size)
        if grid is None:
            raise OptionError(
                f"--layer: an output of {self.network.name} has the shape {tuple(x.shape[1:])} and "
                "is no feature map; name another layer"
            )
        return grid.to_map(x).clone().float()

    @property
    def _image_size(self) -> tuple[int, int]:
        _, height, width = self.network.preprocessing.input_size
        return height, width

    def _has_prefix(self, x: Tensor) -> bool:
        """Return whether tokens begin with the prefix tokens, as the last stage's do."""
        return x.ndim == 3 and x.shape[1] == self._last_token_count

    @cached_property
    def _last_token_count(self) -> int:
        """Number of tokens in the output of the last stage; 0 where it has no prefix tokens."""
        import torch

        if not self.network.layout.prefix_tokens and not self.network.layout.class_token:
            return 0
        with torch.inference_mode():
            last_map = self.network.forward_parts(self.network.blank_image()).last_map
        return last_map.shape[1] if isinstance(last_map, torch.Tensor) and last_map.ndim == 3 else 0

    def _positions(self, x: Tensor) -> Tensor:
        """Return a map or tokens as (B, positions, channels)."""
        if x.ndim == 3:
            return x[:, self.network.layout.prefix_tokens :] if self._has_prefix(x) else x
        from transferkit.models.grids import channels_are_last

        last = channels_are_last(x, self.network.layout, self._image_size)
        return x.flatten(1, 2) if last else x.flatten(2).transpose(1, 2)


def find_hook_points(
    network: Network, names: Sequence[str], others: Sequence[str] = ()
) -> dict[str, HookPoint]:
    """Return where the values of stages and modules can be read.

    Args:
        network: The network.
        names: Stages or modules; a stage takes precedence over a module of the same name.
        others: Further valid layer names, for the suggestions of the error.

    Raises:
        UnknownNameError: When the network has no such layer.
    """
    modules = {name for name, _ in network.module.named_modules() if name}
    known = {stage.name for stage in network.stages if stage.modules}
    stages = stage_hook_points(network) if known & set(names) else {}
    points = {}
    for name in names:
        if name not in modules and name not in stages:
            raise UnknownNameError(
                "layer", name, [*others, *known, *modules],
                f"see: transferkit inspect {network.name}",
            )  # fmt: skip
        points[name] = stages.get(name) or HookPoint(name, is_input=False)
    return points


def stage_hook_points(network: Network) -> dict[str, HookPoint]:
    """Return where the output of each stage can be read: it enters the next stage's first module.

    The output of the last backbone stage is that of its last module with a map or tokens, which
    excludes a norm after the pooling. Without such a module it is that of the stage's last module.
    """
    begun, ended = _execution_order(network)
    points = {}
    *backbone, head = network.stages
    for stage, following in zip(backbone, [*backbone[1:], None], strict=True):
        if following is None:
            own = [name for name, _ in ended if _is_inside(name, stage.modules)]
            maps = [name for name, is_map in ended if is_map and name in own]
            if own:
                points[stage.name] = HookPoint((maps or own)[-1], is_input=False)
        elif first := next((n for n in begun if _is_inside(n, following.modules)), None):
            points[stage.name] = HookPoint(first, is_input=True)
    if head.modules:
        points[head.name] = HookPoint(head.modules[-1], is_input=False)
    return points


def _is_inside(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _execution_order(network: Network) -> tuple[list[str], list[tuple[str, bool]]]:
    """Return the modules' names in the order in which a forward pass begins and ends them.

    The second list also says whether a module's output has more than one position.
    """
    import torch

    begun: list[str] = []
    ended: list[tuple[str, bool]] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: begun.append(name)

    def leave(name: str) -> Callable[..., None]:
        return lambda *args: ended.append((name, _has_positions(args[-1])))

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
    module: nn.Module, points: dict[str, HookPoint], store: Callable[[str, object], None]
) -> Iterator[None]:
    """Call `store(name, value)` for every hook point while the block runs."""
    handles: list[Any] = []
    for name, point in points.items():
        target = module.get_submodule(point.module)
        if point.is_input:
            handles.append(
                target.register_forward_pre_hook(
                    lambda _, args, n=name: store(n, args[0] if args else None)
                )
            )
        else:
            handles.append(target.register_forward_hook(lambda _, __, out, n=name: store(n, out)))
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


def _one_row_per_image(name: str, value: object, count: int) -> Tensor:
    import torch

    # Window attention passes more than one row per image to its inner modules.
    if not isinstance(value, torch.Tensor) or not 2 <= value.ndim <= 4 or len(value) != count:
        raise OptionError(
            f"--layer: {name} outputs no feature map, tokens or vector per image; name another "
            "layer"
        )
    return value


def _pool_positions(x: Tensor, pool: Pool) -> Tensor:
    """Pool (B, positions, channels) to (B, channels)."""
    match pool:
        case Pool.AUTO | Pool.AVG:
            return x.mean(dim=1)
        case Pool.MAX:
            return x.amax(dim=1)
        case Pool.GEM:
            return x.clamp(min=_GEM_FLOOR).pow(_GEM_POWER).mean(dim=1).pow(1 / _GEM_POWER)
        case Pool.FLATTEN | Pool.NONE:
            raise ValueError(f"{pool} does not pool positions")
        case _:
            assert_never(pool)
