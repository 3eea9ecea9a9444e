"""A faster copy of a module for inference, which computes the same outputs."""

from collections import OrderedDict
from collections.abc import Collection
from copy import deepcopy
from inspect import signature
from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame, get_notrace_functions, get_notrace_modules
from torch import fx, nn
from torch.nn.utils import fuse_conv_bn_eval

_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)


class Tracer(fx.Tracer):
    """A tracer down to torch's own layers and to those that timm marks as untraceable."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self._whole = tuple(get_notrace_modules())

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is called whole instead of traced."""
        return isinstance(m, self._whole) or super().is_leaf_module(m, module_qualified_name)


def default_arguments(module: nn.Module) -> dict[str, Any]:
    """Return the optional arguments of a module's forward pass, for `fx.Tracer.trace`."""
    parameters = signature(module.forward).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def inference_copy(module: nn.Module, dtype: torch.dtype, keep: Collection[str] = ()) -> nn.Module:
    """Return a copy in eval mode whose BatchNorms are fused into the convolutions before them.

    The copy's modules keep their names, but the output of a fused convolution is that of its
    BatchNorm. A module that cannot be traced is cast and not fused.

    Args:
        module: In eval mode; it is not changed.
        dtype: Type of the copy's weights and of the images it takes.
        keep: Names of modules that are not fused, because their own output or input is needed.
    """
    copy = deepcopy(module).eval().requires_grad_(False)
    for conv, norm in _fusable_pairs(copy):
        if conv not in keep and norm not in keep:
            _fuse(copy, conv, norm)
    return copy.to(dtype)


def _fuse(module: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    _replace(module, conv_name, fuse_conv_bn_eval(conv, norm))
    # timm's BatchNormAct2d also contains the activation and dropout that follow the norm.
    rest = {"drop": norm.drop, "act": norm.act} if isinstance(norm, BatchNormAct2d) else {}
    _replace(module, norm_name, nn.Sequential(OrderedDict(rest)))


def _fusable_pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Return the names (convolution, BatchNorm) where only that BatchNorm reads the convolution."""
    try:
        graph = Tracer().trace(module, concrete_args=default_arguments(module))
    except Exception:
        # Control flow that depends on the data fails in as many ways as there are models. Such a
        # module is not fused.
        return []
    modules, calls = dict(module.named_modules()), [n.target for n in graph.nodes]
    pairs = []
    for node in graph.nodes:
        conv = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(conv, fx.Node) or conv.op != "call_module" or len(conv.users) > 1:
            continue
        is_pair = type(modules[str(conv.target)]) in _CONVOLUTIONS and _is_plain_norm(
            modules[str(node.target)]
        )
        # A module that is called twice may be part of such a pair in only one of the two places.
        if is_pair and calls.count(conv.target) == calls.count(node.target) == 1:
            pairs.append((str(conv.target), str(node.target)))
    return pairs


def _is_plain_norm(module: nn.Module) -> bool:
    kinds = (nn.BatchNorm2d, BatchNormAct2d)
    return type(module) in kinds and getattr(module, "running_mean", None) is not None


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, new.eval())
