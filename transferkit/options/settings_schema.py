"""The JSON schema of a command's settings file, for editors that check and complete it."""

from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from transferkit.options.declaration import DeclaredOption, Options, Range, declared_options
from transferkit.options.recorded import json_values

_DRAFT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN: dict[Any, str] = {bool: "boolean", int: "integer", float: "number"}


def settings_schema(kind: type[Options], command: str) -> dict[str, Any]:
    """Return the schema of the options of a command, by draft 2020-12."""
    return {
        "$schema": _DRAFT,
        "title": f"Settings of transferkit {command}",
        "type": "object",
        "properties": {entry.name: _property(entry) for entry in declared_options(kind)},
        "additionalProperties": False,
    }


def _property(declared: DeclaredOption) -> dict[str, Any]:
    option = declared.option
    kinds = [_schema(kind, option.within) for kind in _alternatives(declared.type)]
    if option.convert:
        kinds = [_list_of({"type": "string"})]
    if option.parse:
        kinds.append({"type": "string"})
    kinds += [entry["items"] for entry in kinds if "items" in entry]  # one may stand for a list
    different = [kind for number, kind in enumerate(kinds) if kind not in kinds[:number]]
    described = {"description": option.help}
    if not declared.is_required and declared.default is not None:
        described |= {"default": json_values({"default": declared.default})["default"]}
    return described | (different[0] if len(different) == 1 else {"anyOf": different})


def _alternatives(kind: Any) -> list[Any]:
    is_union = get_origin(kind) in (Union, UnionType)
    return [one for one in (get_args(kind) if is_union else (kind,)) if one is not NoneType]


def _schema(kind: Any, within: Range | None) -> dict[str, Any]:
    """Return the schema of values of one type, numbers of them in a range."""
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return {"enum": list(arguments)}
    if get_origin(kind) is tuple and arguments[-1] is Ellipsis:
        return _list_of(_schema(arguments[0], within))
    if get_origin(kind) is tuple:
        return {
            "type": "array",
            "prefixItems": [_schema(one, within) for one in arguments],
            "minItems": len(arguments),
            "maxItems": len(arguments),
        }
    if kind in _PLAIN:
        return {"type": _PLAIN[kind], **(_limits(within) if within else {})}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"enum": [str(member) for member in kind]}
    return {"type": "string"}


def _list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _limits(within: Range) -> dict[str, float]:
    low = "exclusiveMinimum" if within.open_low else "minimum"
    high = "exclusiveMaximum" if within.open_high else "maximum"
    found = {low: within.low, high: within.high}
    return {name: value for name, value in found.items() if value != float("inf")}
