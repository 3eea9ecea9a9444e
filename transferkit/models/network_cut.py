"""Cut a network in two before its first trained layer.

The part in front is frozen and depends on the images alone, so its output can be cached.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import get_notrace_functions
from torch import Tensor, fx, nn

from transferkit.models.fusing import default_arguments
from transferkit.models.network import Network


@dataclass(frozen=True, eq=False)
class NetworkCut:
    """The two parts of a network, which share its tensors and modules.

    Attributes:
        prefix: Maps images (B, 3, H, W) to the tensor at the cut (B, ...); trains nothing.
        suffix: Maps the tensor at the cut to logits (B, C).
        shape: Shape of the tensor at the cut for one image.
    """

    prefix: fx.GraphModule
    suffix: fx.GraphModule
    shape: tuple[int, ...]


class _Tracer(fx.Tracer):
    """A tracer that opens only modules with both frozen and trained parameters.

    All other modules are called whole. They may therefore contain what cannot be traced, and their
    train or eval mode stays in effect.
    """

    def __init__(self, trained: frozenset[str]) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self._trained = trained

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        inside = {
            f"{module_qualified_name}.{name}" in self._trained for name, _ in m.named_parameters()
        }
        return len(inside) < 2


def cut_network(network: Network, trained: Collection[str]) -> NetworkCut | None:
    """Cut a network in front of everything that depends on a trained parameter.

    Args:
        network: Frozen and in the modes it is trained in, see `freeze` and `train_mode`.
        trained: Names of the parameters that receive updates.

    Returns:
        The two parts. None where the network cannot be traced, where no frozen layer comes first,
        or where more than one tensor crosses the cut.
    """
    module, trained = network.module, frozenset(trained)
    try:
        graph = _Tracer(trained).trace(module, concrete_args=default_arguments(module))
        parts = _prefix_and_suffix(graph, trained, module)
        return parts and _verified(network, *parts)
    except Exception:
        # Control flow that depends on the data fails in as many ways as there are models.
        return None


def _prefix_and_suffix(
    graph: fx.Graph, trained: frozenset[str], module: nn.Module
) -> tuple[fx.GraphModule, fx.GraphModule] | None:
    images, *others = (node for node in graph.nodes if node.op == "placeholder")
    of_images, of_others = _dependents([images]), _dependents(others)
    after = _dependents([node for node in graph.nodes if _uses_trained(node, trained, module)])
    inner = [node for node in graph.nodes if node.op != "output" and node not in of_others]
    before = [node for node in inner if node not in after]
    crossing = [n for n in before if n in of_images and not after.isdisjoint(n.users)]
    if len(crossing) != 1 or crossing == [images]:
        return None
    # What does not depend on the images (position embeddings) is cheap: both parts may compute it.
    following = [node for node in inner if node not in of_images or node in after]
    end = next(node for node in graph.nodes if node.op == "output")
    return (
        _subgraph(module, before, images, crossing[0]),
        _subgraph(module, following, crossing[0], end.args[0]),
    )


def _dependents(starts: Iterable[fx.Node]) -> set[fx.Node]:
    """Return these nodes and all that depend on them."""
    reached: set[fx.Node] = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += node.users
    return reached


def _subgraph(
    module: nn.Module, nodes: Iterable[fx.Node], given: fx.Node, result: Any
) -> fx.GraphModule:
    """Return the part of a graph that computes `result` from `given`."""
    graph = fx.Graph()
    # Keep this name: the code of the prefix, placeholder included, is in the keys of row caches.
    copies = {given: graph.placeholder("given")}
    for node in nodes:
        if node is not given:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[result])
    part = fx.GraphModule(module, graph)
    part.graph.eliminate_dead_code()
    part.delete_all_unused_submodules()
    part.recompile()
    return part


def _uses_trained(node: fx.Node, trained: frozenset[str], module: nn.Module) -> bool:
    target = str(node.target)
    if node.op == "get_attr":
        return target in trained
    if node.op != "call_module":
        return False
    names = (f"{target}.{name}" for name, _ in module.get_submodule(target).named_parameters())
    return any(name in trained for name in names)


@torch.no_grad()
def _verified(
    network: Network, prefix: fx.GraphModule, suffix: fx.GraphModule
) -> NetworkCut | None:
    """Return the parts if together they compute what the network does, for any batch size."""
    # A private generator: the check must not change what training draws.
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, *network.preprocessing.input_size, generator=generator)
    image = image.to(network.device)
    images = torch.cat([image, image.flip(-1), image.flip(-2)])
    crossing = prefix(images)
    if not isinstance(crossing, Tensor) or crossing.ndim < 2 or len(crossing) != len(images):
        return None
    modes = [(m, m.training) for m in network.module.modules()]
    network.module.eval()
    try:
        is_same = torch.equal(suffix(crossing), network.module(images)) and torch.equal(
            suffix(prefix(image)), network.module(image)
        )
    finally:
        for m, mode in modes:
            m.training = mode
    return NetworkCut(prefix, suffix, tuple(crossing.shape[1:])) if is_same else None
