"""Build a network whose weights are going to be loaded: without drawing random ones first."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWING = frozenset((
    torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.erfinv_,
))  # fmt: skip


class _Undrawn(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return args[0] if func in _DRAWING else func(*args, **(kwargs or {}))


def without_drawing() -> AbstractContextManager[object]:
    """Leave weights as memory happens to be, instead of drawing them.

    Unlike on the meta device, what a network computes when it is built (tables of positions that
    no weights file holds) is there. VGG-19 draws 143 million numbers, which takes a second.
    """
    return _Undrawn()
