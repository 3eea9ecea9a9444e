"""Import torch's compiler only when something is compiled.

timm and torchvision import `torch._dynamo`, and with it sympy, triton and torch's code generator,
although they compile nothing. This takes longer than predicting an image. Only the command line
does without: it calls `defer_compiler` in a process of its own, before it imports torch.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER, _UTILITIES = "torch._dynamo", "torch._dynamo.utils"


def defer_compiler() -> None:
    """Let stand-ins answer for torch's compiler until something needs the compiler itself.

    They answer what torch, timm and torchvision ask while nothing is compiled. Any other question
    imports the compiler, which then takes their place.
    """
    if _COMPILER not in sys.modules:
        utilities = _StandIn(
            _UTILITIES,
            is_compile_supported=_is_compile_supported,
            get_optimize_ddp_mode=_get_optimize_ddp_mode,
        )
        sys.modules[_UTILITIES] = utilities
        sys.modules[_COMPILER] = _StandIn(
            _COMPILER,
            disable=_disable,
            graph_break=_graph_break,
            utils=utilities,
            trace_rules=_StandIn(f"{_COMPILER}.trace_rules", clear_lru_cache=_clear_lru_cache),
        )


class _StandIn(ModuleType):
    def __init__(self, name: str, **answers: Any) -> None:
        super().__init__(name)
        vars(self).update(answers)

    def __getattr__(self, name: str) -> Any:
        # Any import below torch._dynamo asks for its __path__, inspect asks all modules for others.
        if name.startswith("__") and (self.__name__, name) != (_COMPILER, "__path__"):
            raise AttributeError(name)
        return getattr(_import_compiler(self.__name__), name)


def _import_compiler(name: str) -> ModuleType:
    if isinstance(sys.modules[_COMPILER], _StandIn):
        del sys.modules[_COMPILER], sys.modules[_UTILITIES]
        import_module(_COMPILER)
    return import_module(name)


def _disable(fn: Callable[..., Any] | None = None, *_: object, **__: object) -> Callable[..., Any]:
    # Where nothing is compiled, a function that must not be compiled stays as it is.
    return _disable if fn is None else fn


def _graph_break(*_: object, **__: object) -> None:
    """Do nothing: there is no graph."""


def _clear_lru_cache() -> None:
    """Do nothing: nothing was compiled, so nothing is remembered of it."""


def _get_optimize_ddp_mode() -> str:
    return "ddp_optimizer"  # torch's default, which matters only where something is compiled


def _is_compile_supported(device_type: str) -> Any:
    return _import_compiler(_UTILITIES).is_compile_supported(device_type)
