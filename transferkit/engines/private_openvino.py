"""Import OpenVINO without its telemetry.

When it is imported, OpenVINO reports to Google Analytics and writes a number for the user to the
home folder, by a package of its own. Where that package cannot be imported, it reports nothing.
"""

import sys
from typing import Any

_REPORTING = "openvino_telemetry"


def import_openvino() -> Any:
    """Return the module `openvino`, which reports nothing unless the program imported it before."""
    before = sys.modules.get(_REPORTING)
    if before is None:
        sys.modules[_REPORTING] = None  # type: ignore[assignment]  # what Python does not import
    try:
        import openvino
    finally:
        if before is None:
            del sys.modules[_REPORTING]
    return openvino
