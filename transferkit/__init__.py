"""Transfer learning on a folder of images.

Every command is also a function that takes the command's options as keyword arguments:

    >>> import transferkit
    >>> result = transferkit.finetune("photos")     # doctest: +SKIP
    >>> result.metrics["val"]["accuracy"]           # doctest: +SKIP
    0.93

Importing the package is fast: torch is imported by the first function that needs it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transferkit.api import (
        audit,
        compare,
        draw_report,
        evaluate,
        explain,
        export,
        extract_features,
        finetune,
        inspect,
        list_backbones,
        predict,
    )
    from transferkit.bundle import ModelBundle
    from transferkit.errors import TransferKitError

__version__ = "0.1.0"

__all__ = [
    "ModelBundle",
    "TransferKitError",
    "audit",
    "compare",
    "draw_report",
    "evaluate",
    "explain",
    "export",
    "extract_features",
    "finetune",
    "inspect",
    "list_backbones",
    "predict",
]

_HOMES = {
    "ModelBundle": "transferkit.bundle",
    "TransferKitError": "transferkit.errors",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'transferkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "transferkit.api")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
