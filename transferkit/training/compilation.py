"""The trained layers as code that torch compiles for one device.

torch imports its compiler only when something is compiled.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from transferkit.errors import OptionError


def compiled(layers: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return layers that are compiled in the first step, and again for batches of another size.

    They share the tensors of the given ones, which stay as they are: names, checkpoints and
    validation know nothing of it.
    """
    # Not for any size at once: a resumed run, which may begin with a small batch, would compute
    # with other code than one that was never stopped.
    return torch.compile(layers, dynamic=False)


def require_compiler(device: torch.device) -> None:
    """Check that torch can compile for a device, by compiling a sum.

    Raises:
        OptionError: When it cannot.
    """
    try:
        torch.compile(torch.add)(*torch.ones(2, 1, device=device))
    except Exception as error:  # of torch, of its compiler, or of the compiler that it calls
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        needs = "a C++ compiler such as g++" if device.type == "cpu" else "triton and a C compiler"
        raise OptionError(
            f"--compile: torch cannot compile for {device.type} here ({reason}); it needs {needs}, "
            "or leave the option out"
        ) from error
