"""Start quickly: what libraries import and this process never uses waits until it is used.

Half of the time that torchvision and torch's optimizers take goes to importing torch's compiler,
and most of what timm's optimizers take to tensors that are spread over machines.
"""

import atexit
import gc
import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

_OBJECTS = 100_000
"""New objects between two searches for cycles of garbage."""

_began: float | None = None

_COMPILER, _UTILITIES = "torch._dynamo", "torch._dynamo.utils"


def begin() -> None:
    """Note that the process begins now, and put off what it may never need.

    Also the search for cycles of garbage, which imports make none of: at its usual pace it looks
    hundreds of times through all that has been imported, and then once more at the end.
    """
    global _began
    _began = time.perf_counter()
    gc.set_threshold(_OBJECTS)
    atexit.register(_spare_the_last_search)
    defer_compiler()


def _spare_the_last_search() -> None:
    # nanobind, with which triton is bound, takes whatever was not searched for leaked, and says so.
    if "triton" not in sys.modules:
        gc.freeze()


def start_up_seconds() -> float:
    """Seconds from the beginning of the process to the first call, 0 in all later ones.

    Also 0 where the process did not begin with `begin`, but with someone's own program.
    """
    global _began
    began, _began = _began, None
    return 0.0 if began is None else time.perf_counter() - began


def defer_compiler() -> None:
    """Let torch's compiler be imported by whoever first compiles, and not before.

    Until then a stand-in gives the few answers that hold while nothing is compiled; whatever else
    is asked of it brings the real one. Nothing is done where that is imported already.
    """
    if _COMPILER not in sys.modules:
        sys.modules[_COMPILER] = _Compiler()
        sys.modules[_UTILITIES] = _CompilerUtilities()


def import_without(name: str, unneeded: str) -> ModuleType:
    """Import a module that can do without another, which is then not imported for its sake.

    Where the other is imported already, or the module cannot do without, it has it.
    """
    if unneeded in sys.modules:
        return import_module(name)
    # None is Python's own sign for a module that shall not be found.
    sys.modules[unneeded] = None  # type: ignore[assignment]
    try:
        return import_module(name)
    except ImportError:
        # It cannot do without after all, or fails by itself, which the ordinary way will tell.
        del sys.modules[unneeded]
        return import_module(name)
    finally:
        if sys.modules.get(unneeded, unneeded) is None:
            del sys.modules[unneeded]


class _Compiler(ModuleType):
    """What eager code asks of the compiler, answered as long as nothing is compiled."""

    def __init__(self) -> None:
        super().__init__(_COMPILER)
        self.config = SimpleNamespace()

    def disable(self, fn: Callable[..., Any], *_: object, **__: object) -> Callable[..., Any]:
        return fn

    def graph_break(self, *_: object, **__: object) -> None:
        return None

    def is_compiling(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        # inspect asks every module for its file and the like; __path__ an import of what is below.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        return getattr(_real(_COMPILER), name)


class _CompilerUtilities(ModuleType):
    def __init__(self) -> None:
        super().__init__(_UTILITIES)

    def is_compile_supported(self, *args: Any) -> Any:
        return _real(_UTILITIES).is_compile_supported(*args)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(_UTILITIES), name)


def _real(name: str) -> Any:
    """The compiler's module of that name, with the stand-ins gone."""
    stand_in = sys.modules[_COMPILER]
    if isinstance(stand_in, _Compiler):
        del sys.modules[_COMPILER], sys.modules[_UTILITIES]
        compiler = import_module(_COMPILER)
        for option, value in vars(stand_in.config).items():
            setattr(compiler.config, option, value)
    return import_module(name)
