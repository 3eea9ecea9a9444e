"""Converted networks on disk, so that each is converted once. Imports no torch.

They are entries of the row cache, which lists and removes them, with a file instead of rows.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from transferkit.files import whole_file, write_json
from transferkit.row_cache import ABOUT, cache_folder, entry_key

_CONTENT = "model.onnx"


def load_conversion(identity: Mapping[str, Any]) -> bytes | None:
    """Return the content of a converted network's ONNX file; None if it is not there.

    Args:
        identity: Everything that the conversion depends on, as JSON values.
    """
    folder = cache_folder() / entry_key(identity)
    try:
        content = (folder / _CONTENT).read_bytes()
    except OSError:
        return None
    # Entries are removed by their time of last use. A shared entry may be read-only.
    with suppress(OSError):
        os.utime(folder / ABOUT)
    return content


def store_conversion(identity: Mapping[str, Any], content: bytes) -> None:
    """Keep the content of a converted network's ONNX file.

    Raises:
        OutputError: When it cannot be written.
    """
    folder = cache_folder() / entry_key(identity)
    with whole_file(folder / _CONTENT) as temporary:
        temporary.write_bytes(content)
    write_json(folder / ABOUT, dict(identity))
