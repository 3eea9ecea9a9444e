"""Record the options of a run or a comparison, and read them back to resume it."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from types import NoneType
from typing import Any, TypeVar

from transferkit.errors import OptionError, OutputError
from transferkit.options.declaration import (
    OnResume,
    Options,
    declared_options,
    given_flags,
    option_names,
)
from transferkit.places import Place

_O = TypeVar("_O", bound=Options)

_JSON = (str, int, float, bool, tuple, list, dict, NoneType)

GIVEN = "given"
"""Key for the options as given; the rest is resolved."""


def given_options(options: Options) -> dict[str, Any]:
    """Return the options that differ from their default, as JSON values; not those of the call."""
    of_the_call = option_names(options, on_resume=OnResume.CALL)
    given = {
        entry.name: getattr(options, entry.name)
        for entry in fields(options)
        if entry.name not in of_the_call and getattr(options, entry.name) != entry.default
    }
    return json_values(given)


def json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as JSON values: paths, patterns and the like become text."""
    return {name: _json_value(value) for name, value in values.items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, re.Pattern):
        return value.pattern
    return value if isinstance(value, _JSON) else str(value)


def read_recorded(path: Place, kind: type[Options]) -> dict[str, Any]:
    """Return the content of an options file, with options of `kind` under `GIVEN`.

    Raises:
        OutputError: When it is damaged, or contains options that `kind` does not have.
    """
    try:
        recorded = dict(json.loads(path.read_text("utf-8")))
        known = set(option_names(kind)) - set(option_names(kind, on_resume=OnResume.CALL))
        if unknown := set(dict(recorded[GIVEN])) - known:
            raise ValueError(f"unknown options: {', '.join(sorted(unknown))}")
        return recorded
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path}: is damaged, or of another version of transferkit ({error}); start over with "
            "--overwrite"
        ) from error


def resumed(options: _O, given: Mapping[str, Any], folder: Place) -> _O:
    """Return the options that a run began with; those that may change have their new values.

    Args:
        options: The options of the call that resumes.
        given: The options as given in the first call.
        folder: The run's folder, for messages.

    Raises:
        OptionError: When an option is given now that the run did not begin with.
    """
    changeable = (
        *option_names(options, on_resume=OnResume.FREE),
        *option_names(options, on_resume=OnResume.CALL),
    )
    now = {name: getattr(options, name) for name in changeable}
    began = type(options)(**{**given, **now})
    for declared in declared_options(options):
        mine, its = getattr(options, declared.name), getattr(began, declared.name)
        if given_flags(options, (declared.name,)) and mine != its:
            raise OptionError(
                f"{declared.flag}: got {_shown(mine)}, and the run in {folder} began with "
                f"{_shown(its)}; leave the option out to resume as it began, or start over with "
                "--overwrite"
            )
    return began


def _shown(value: Any) -> str:
    """Return a value of an option as messages show it; several with commas between."""
    values = value if isinstance(value, tuple) else (value,)
    return ", ".join(str(_json_value(one)) for one in values) or "none"
