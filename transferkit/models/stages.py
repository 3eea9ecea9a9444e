"""One vocabulary for every architecture: a backbone is an ordered list of stages, stem to last.

Stages are named `stem`, `stage1`, `stage2` ...; the head is separate. Every parameter of the
backbone belongs to exactly one stage.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from timm.models import group_parameters
from torch import nn

HEAD = "head"

Units = Sequence[tuple[str, nn.Module]]
"""Named parts of a network, in order of execution."""


@dataclass(frozen=True)
class Stage:
    """A coarse block of a network.

    Attributes:
        name: `stem`, `stage1` ... or `head`.
        parameters: Full names of its parameters.
        modules: The shortest module names that together contain these parameters and no others.
    """

    name: str
    parameters: tuple[str, ...]
    modules: tuple[str, ...]


def timm_stages(module: nn.Module, heads: Sequence[str]) -> tuple[Stage, ...]:
    """Return the stages of a timm model, from its own `group_matcher` and `feature_info`.

    `group_matcher(coarse=True)` orders the parameters from stem to head. Where its groups are finer
    than blocks (VGG has one per convolution), the groups up to each entry of `feature_info` are
    joined. Pretrained fully connected layers before the head (VGG's pair) are a stage of their own.
    """
    grouped = group_parameters(module, module.group_matcher(coarse=True))  # type: ignore[operator]
    groups = [_without_head(grouped[i], heads) for i in sorted(grouped)]
    has_head = len(groups[-1]) < len(grouped[max(grouped)])
    beyond = groups.pop() if has_head and len(groups) > 1 else []  # the neck, grouped with the head
    ends = {0, len(groups) - 1, *_feature_ends(module, groups)}
    stages: list[list[str]] = [[]]
    for i, group in enumerate(groups):
        stages[-1] += group
        if i in ends:
            stages.append([])
    stages[-1] += beyond
    return _create_stages(module, stages, heads)


def traced_stages(
    module: nn.Module, heads: Sequence[str], input_size: tuple[int, int, int]
) -> tuple[Stage, ...]:
    """Return the stages of a network without timm's contract, from the outputs of its blocks.

    Neighbouring blocks whose feature maps have the same size form a stage. Where the size never
    changes (transformers), each repeated block is a stage. Single layers before the first block are
    the stem. Single layers between blocks (a norm and a strided convolution) belong to the stage
    that they lead to.

    Args:
        module: The network, in eval mode; a blank image is passed through it once.
        heads: Names of its head's modules.
        input_size: (channels, height, width) of its input.
    """
    units = list(_units(module))
    keys = _stage_keys(units, _output_sizes(module, dict(units), input_size))
    stages: list[list[str]] = [_parameters_outside(module, [name for name, _ in units])]
    previous: object = None
    for (name, unit), key in zip(units, keys, strict=True):
        own = _without_head([f"{name}.{p}" for p, _ in unit.named_parameters()], heads)
        if not own:
            continue
        if previous is not None and key != previous:
            stages.append([])
        stages[-1] += own
        previous = key
    return _create_stages(module, stages, heads)


def _stage_keys(units: Units, sizes: Mapping[str, tuple[int, ...]]) -> list[object]:
    """Return a key for each unit; neighbouring units with equal keys form a stage."""
    kinds = Counter(type(unit) for _, unit in units)
    repeated = max(kinds.values())
    constant = len({size for size in sizes.values() if len(size) > 1}) < 3 and repeated > 2
    blocks = [i for i, (_, unit) in enumerate(units) if next(unit.children(), None) is not None]
    keys: list[object] = []
    following: object = None  # key of the last single layer with parameters in the current run
    for i, (name, unit) in reversed(list(enumerate(units))):
        key: object = name if constant and kinds[type(unit)] == repeated else sizes.get(name)
        if i in blocks:
            following = None
        elif blocks and next(unit.parameters(), None) is not None:
            key = "stem" if i < blocks[0] else following or key
            following = key
        keys.append(key)
    return keys[::-1]


def _feature_ends(module: nn.Module, groups: Sequence[Sequence[str]]) -> Iterable[int]:
    """Yield the index of the last group of each entry of `feature_info`."""
    group_of = {name: i for i, group in enumerate(groups) for name in group}
    infos = getattr(module, "feature_info", None) or []
    wanted = {info["module"] for info in infos if "module" in info}
    if not wanted or not wanted <= dict(module.named_modules()).keys():
        # Some models list no features, or modules that they do not have.
        yield from range(len(groups))
        return
    reached = 0
    # A feature may be a layer without parameters (VGG's are pooling layers). It ends the group of
    # the last parameter before it, in order of registration, which is timm's order of execution.
    for name, child in module.named_modules():
        own = [group_of.get(f"{name}.{p}" if name else p) for p, _ in child.named_parameters()]
        inside = [i for i in own if i is not None]
        if name in wanted:
            yield max([reached, *inside])
        if name and next(child.children(), None) is None:
            reached = max([reached, *inside])


def _units(
    module: nn.Module, prefix: str = "", total: int | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the blocks and single layers; a child with most of the parameters is opened."""
    total = sum(p.numel() for p in module.parameters()) if total is None else total
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        bulk = sum(p.numel() for p in child.parameters()) > total / 2
        opened = isinstance(child, nn.Sequential | nn.ModuleList) or bulk
        if opened and next(child.children(), None) is not None:
            yield from _units(child, f"{full}.", total)
        else:
            yield full, child


def _output_sizes(
    module: nn.Module, units: dict[str, nn.Module], input_size: tuple[int, int, int]
) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, tuple[int, ...]] = {}

    def recorder(name: str) -> Callable[[nn.Module, object, object], None]:
        def record(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                sizes[name] = tuple(output.shape[1:][-2:]) if output.ndim > 2 else ()

        return record

    handles = [unit.register_forward_hook(recorder(name)) for name, unit in units.items()]
    with torch.no_grad():
        module(torch.zeros(1, *input_size))
    for handle in handles:
        handle.remove()
    return sizes


def _parameters_outside(module: nn.Module, units: Sequence[str]) -> list[str]:
    inside = tuple(f"{name}." for name in units)
    return [name for name, _ in module.named_parameters() if not name.startswith(inside)]


def _create_stages(
    module: nn.Module, stages: Sequence[Sequence[str]], heads: Sequence[str]
) -> tuple[Stage, ...]:
    tensors = dict(module.named_parameters())
    kept: list[list[str]] = []
    for names in stages:
        # A trailing norm is no stage: it belongs to the blocks whose output it scales.
        if any(tensors[name].ndim > 1 for name in names) or (names and not kept):
            kept.append(list(names))
        elif names:
            kept[-1] += names
    labels = ["stem", *(f"stage{i}" for i in range(1, len(kept)))]
    head = [name for name in tensors if name.startswith(tuple(f"{h}." for h in heads))]
    return tuple(
        Stage(label, tuple(names), _modules_holding(list(tensors), names))
        for label, names in zip([*labels, HEAD], [*kept, head], strict=True)
    )


def _without_head(names: Iterable[str], heads: Sequence[str]) -> list[str]:
    prefixes = tuple(f"{head}." for head in heads)
    return [name for name in names if not name.startswith(prefixes)]


def _modules_holding(everything: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    outside = set(everything) - set(names)
    taken = {prefix for name in outside for prefix in _prefixes(name)}
    found = (next((p for p in _prefixes(name) if p not in taken), name) for name in names)
    return tuple(dict.fromkeys(found))


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
