"""Build a network without drawing random weights, for weights that are loaded afterwards."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWING = frozenset((torch.Tensor.uniform_, torch.Tensor.normal_))


class _Undrawn(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # Zeros and not whatever memory held: torch draws truncated normals until all numbers are
        # within the bounds, which may then never end.
        return args[0].zero_() if func in _DRAWING else func(*args, **(kwargs or {}))


def without_drawing() -> AbstractContextManager[object]:
    """Return a context in which weights become zero instead of being drawn.

    Unlike on the meta device, everything else that a network computes when it is built is there,
    such as tables of positions that no weights file contains. VGG-19 would draw 143 million
    numbers, which takes a second.
    """
    return _Undrawn()
