"""Read named tensors from a weights file or a training checkpoint; no pickled code is run."""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import safetensors.torch
import torch
from torch import Tensor

from transferkit.errors import WeightsError

State = dict[str, Tensor]

_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema", "teacher")
"""Where training programs keep a moving average of the weights, timm's first."""

_TRAINED = (
    *("state_dict", "model", "model_state_dict", "model_state", "params"),
    *("network", "net", "module", "weights", "student"),
)
"""Where they keep the weights themselves."""

_DEEPEST = 4
"""How deep a checkpoint is searched: a pickle may contain itself."""

_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_RECORDS = (
    *("argparse.Namespace", "types.SimpleNamespace"),
    *(f"pathlib.{kind}" for kind in _PATHS),
    *(f"pathlib._local.{kind}" for kind in _PATHS),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
    *("numpy.dtype", "numpy.ndarray"),
)
"""Names in a pickle that stand for settings and metrics beside the weights."""


class _Record:
    """Replaces any of `_RECORDS` in a pickle; takes every argument and keeps none."""

    def __new__(cls, *args: object) -> "_Record":
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        """Ignore what the record was made of."""

    def __setstate__(self, state: object) -> None:
        """Ignore its content."""


@dataclass(frozen=True)
class WeightsFile:
    """The content of a weights file.

    Attributes:
        tensors: Name -> tensor.
        table: The entry of a checkpoint that holds them; empty if the file holds nothing else.
        is_averaged: Whether they are the average that training kept beside the weights.
    """

    tensors: State
    table: str = ""
    is_averaged: bool = False


def read_weights(path: Path) -> WeightsFile:
    """Read a .safetensors or PyTorch file, or the checkpoint of a training program.

    Where a checkpoint has an average of the weights beside them, the average is read, as timm does.

    Raises:
        WeightsError: When there is no such file, or it contains no tensors or runs code.
    """
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weights file; expected a .safetensors or .pth file "
            "(--weights takes pretrained, none or a path)"
        )
    try:
        if path.suffix == ".safetensors":
            return WeightsFile(safetensors.torch.load_file(path))
        with _records_ignored():
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files raise many kinds of errors, depending on the format. So does a pickle that
        # would run code. The cause is this file in any case.
        raise WeightsError(
            f"{path}: cannot be read as weights ({_reason(error)}); expected tensors only, in a "
            ".safetensors or .pth file"
        ) from error
    found = _find_tensors(loaded) if isinstance(loaded, Mapping) else None
    if found is None:
        raise WeightsError(
            f"{path}: holds no table of named tensors; save the model's state_dict() there"
        )
    return found


def _reason(error: Exception) -> str:
    if found := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
        return f"it holds {found[1]}, and loading that would run code"
    first_line = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first_line[:200]}"


def _records_ignored() -> AbstractContextManager[object]:
    return torch.serialization.safe_globals([(_Record, name) for name in _RECORDS])


def _find_tensors(table: Mapping[object, object], depth: int = 0) -> WeightsFile | None:
    """Return the tensors of a checkpoint, from the innermost entry that holds them."""
    for key in (*_AVERAGED, *_TRAINED):
        inner = table.get(key)
        found = _find_tensors(inner, depth + 1) if _may_hold(inner, depth) else None
        if found:
            is_averaged = found.is_averaged or key in _AVERAGED
            return WeightsFile(found.tensors, found.table or key, is_averaged)
    # Counters and the like beside the tensors are no weights.
    tensors = {
        name: value
        for name, value in table.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    return WeightsFile(tensors) if tensors else None


def _may_hold(entry: object, depth: int) -> TypeGuard[Mapping[object, object]]:
    return isinstance(entry, Mapping) and depth < _DEEPEST
