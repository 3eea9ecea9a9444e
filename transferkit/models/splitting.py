"""Cut a network in two: what is frozen and reads only pictures, and all that follows."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import get_notrace_functions
from torch import Tensor, fx, nn

from transferkit.models.fusing import defaults
from transferkit.models.network import Network


@dataclass(frozen=True, eq=False)
class Split:
    """The two parts of a network; they share its tensors and modules.

    Attributes:
        prefix: (B, 3, H, W) to what crosses the cut, (B, ...); holds nothing that is trained.
        suffix: What crosses the cut to logits (B, C).
        shape: Of what crosses the cut, without the batch.
    """

    prefix: fx.GraphModule
    suffix: fx.GraphModule
    shape: tuple[int, ...]


class _Tracer(fx.Tracer):
    """Opens only the modules that hold both frozen and trained parameters.

    All others are called as they are, so that they may do what cannot be traced, and go by their
    own train or eval mode.
    """

    def __init__(self, trained: frozenset[str]) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self._trained = trained

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        inside = {
            f"{module_qualified_name}.{name}" in self._trained for name, _ in m.named_parameters()
        }
        return len(inside) < 2


def split(network: Network, trained: Collection[str]) -> Split | None:
    """Cut a network before everything that depends on a trained parameter.

    Args:
        network: Frozen as it is going to be trained, see `freeze` and `train_mode`.
        trained: Names of the parameters that receive updates.

    Returns:
        The parts, or None where the network cannot be traced, nothing frozen comes first, or more
        than one tensor crosses the cut.
    """
    module, trained = network.module, frozenset(trained)
    try:
        graph = _Tracer(trained).trace(module, concrete_args=defaults(module))
        halves = _cut(graph, trained, module)
        return halves and _checked(network, *halves)
    except Exception:
        # Control flow that depends on the data fails in as many ways as there are models.
        return None


def _cut(
    graph: fx.Graph, trained: frozenset[str], module: nn.Module
) -> tuple[fx.GraphModule, fx.GraphModule] | None:
    images, *others = (node for node in graph.nodes if node.op == "placeholder")
    of_images, of_others = _reached([images]), _reached(others)
    after = _reached([node for node in graph.nodes if _holds(node, trained, module)])
    inner = [node for node in graph.nodes if node.op != "output" and node not in of_others]
    before = [node for node in inner if node not in after]
    crossing = [n for n in before if n in of_images and not after.isdisjoint(n.users)]
    if len(crossing) != 1 or crossing == [images]:
        return None
    # What does not come from the pictures (embeddings of positions) is cheap: both may compute it.
    following = [node for node in inner if node not in of_images or node in after]
    end = next(node for node in graph.nodes if node.op == "output")
    return (
        _part(module, before, images, crossing[0]),
        _part(module, following, crossing[0], end.args[0]),
    )


def _reached(starts: Iterable[fx.Node]) -> set[fx.Node]:
    """These nodes and all that depend on them."""
    reached: set[fx.Node] = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += node.users
    return reached


def _part(
    module: nn.Module, nodes: Iterable[fx.Node], given: fx.Node, result: Any
) -> fx.GraphModule:
    """What leads from one node to another."""
    graph = fx.Graph()
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


def _holds(node: fx.Node, trained: frozenset[str], module: nn.Module) -> bool:
    target = str(node.target)
    if node.op == "get_attr":
        return target in trained
    if node.op != "call_module":
        return False
    names = (f"{target}.{name}" for name, _ in module.get_submodule(target).named_parameters())
    return any(name in trained for name in names)


@torch.no_grad()
def _checked(network: Network, prefix: fx.GraphModule, suffix: fx.GraphModule) -> Split | None:
    """The parts, when together they do what the network does, for any number of pictures."""
    # A generator of its own: checking must not change what training draws.
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, *network.preprocessing.input_size, generator=generator)
    image = image.to(network.device)
    images = torch.cat([image, image.flip(-1), image.flip(-2)])
    crossing = prefix(images)
    if not isinstance(crossing, Tensor) or crossing.ndim < 2 or len(crossing) != len(images):
        return None
    modes = [(m, m.training) for m in network.module.modules()]
    network.module.eval()
    same = torch.equal(suffix(crossing), network.module(images)) and torch.equal(
        suffix(prefix(image)), network.module(image)
    )
    for m, mode in modes:
        m.training = mode
    return Split(prefix, suffix, tuple(crossing.shape[1:])) if same else None
