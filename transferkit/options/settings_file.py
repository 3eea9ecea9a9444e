"""The options of a command in a TOML file: read from it, and written as it.

Keys are the names of the options in Python and in options.json. Paths are relative to the current
folder, as on the command line.
"""

import json
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

from transferkit.errors import OptionError, name_some
from transferkit.options.declaration import (
    Options,
    checked_value,
    declared_options,
    resembling_option,
)
from transferkit.options.recorded import GIVEN, json_values
from transferkit.places import Place

_RECORDS = {"options.json": "finetune", "compare-options.json": "compare"}
"""What runs and comparisons record their options in -> the command whose options they are.

`run.folder` knows the names as well, and would take long to import."""

_DATA = "data"
"""The option of the call that a record has beside those as given."""


def read_settings(path: Place, kind: type[Options]) -> dict[str, Any]:
    """Return the options in a file, each as its type.

    Args:
        path: A TOML file; or the folder of a run or a comparison, or the JSON file with its
            options, of which those that it was given and its data are taken.
        kind: The options class of the command.

    Raises:
        OptionError: When the file cannot be read, has a key that `kind` does not have, or a value
            that cannot work.
    """
    path = _file(path)
    values = _read(path)
    known = {declared.name: declared for declared in declared_options(kind)}
    if unknown := [key for key in values if key not in known]:
        raise OptionError(f"{path}: {_describe_unknown(unknown, kind, path)}")
    try:
        return {key: checked_value(known[key], value) for key, value in values.items()}
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error


def _file(path: Place) -> Place:
    """Return the file with the options of a folder; a file as it is."""
    if not path.is_dir():
        return path
    for name in _RECORDS:
        if (path / name).is_file():
            return path / name
    raise OptionError(
        f"--config: {path} is a folder without {' or '.join(_RECORDS)}; expected a run, a "
        "comparison or a TOML file"
    )


def _read(path: Place) -> dict[str, Any]:
    """Return the content of a TOML file, or what a run was given.

    Raises:
        OptionError: When it cannot be read.
    """
    try:
        text = path.read_text("utf-8-sig")  # some editors begin UTF-8 with a mark
        if path.suffix != ".json":
            return tomllib.loads(text)
        recorded = json.loads(text)
        return {_DATA: recorded[_DATA], **recorded[GIVEN]}
    except OSError as error:
        raise OptionError(f"--config: cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"{path}: {_describe_damage(error)}; expected a TOML file with lines such as "
            "epochs = 20, or options.json of a run"
        ) from error


def _describe_damage(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "is not text in UTF-8"
    return f"has no {error}" if isinstance(error, KeyError) else str(error)


def _describe_unknown(keys: Sequence[str], kind: type[Options], path: Place) -> str:
    """Return which keys a command does not know, and what is meant instead."""
    if path.name in _RECORDS:
        has_model = "model" in (declared.name for declared in declared_options(kind))
        return (
            f"has the options of {_RECORDS[path.name]}, of which this command lacks "
            f"{name_some(keys)}; {'name the run with --model, or ' if has_model else ''}write the "
            "options that it has to a TOML file"
        )
    close = {key: resembling_option(kind, key) for key in keys}
    described = [
        f"unknown key {key!r}{f', did you mean {meant}?' if meant else ''}"
        for key, meant in close.items()
    ]
    listed = "" if all(close.values()) else "; --config-schema lists all keys"
    return f"{name_some(described, between='; ')}{listed}"


def format_settings(options: Options, names: Iterable[str], command: str) -> str:
    """Return options as the text of a TOML file.

    Args:
        options: The options.
        names: Those to write.
        command: The command whose options they are.

    Raises:
        OptionError: When one is a path whose bytes are not UTF-8.
    """
    values = json_values({name: getattr(options, name) for name in names})
    # TOML has no null: such a value is the default.
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if value is not None]
    if odd := [line for line in lines if not _is_unicode(line)]:
        raise OptionError(f"--save-config: TOML is UTF-8, and this is not: {odd[0]}; rename it")
    return "\n".join((f"# transferkit {command} --config FILE", *lines, ""))


def _is_unicode(text: str) -> bool:
    """Return whether text has no bytes that Python could not decode."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _toml(value: Any) -> str:
    """Return text, a number, a truth value or a list of them as TOML, which are as in JSON."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
