"""The description of the endpoint for programs: `openapi.json` beside this file, in OpenAPI 3.1."""

import json
from pathlib import Path
from typing import Any

from transferkit import __version__


def describe_api(*, needs_token: bool) -> dict[str, Any]:
    """Return the description of the endpoint.

    Args:
        needs_token: Whether requests must show a token.
    """
    described: dict[str, Any] = json.loads(Path(__file__).with_name("openapi.json").read_text())
    described["info"] = {"title": "transferkit serve", "version": __version__}
    if needs_token:
        described["security"] = [{"token": []}]
    return described
