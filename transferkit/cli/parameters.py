"""From an options class to a command's parameters: each option is declared there alone."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, TypeVar

import typer

from transferkit.cli.exits import exit_codes
from transferkit.cli.state import settings
from transferkit.recipes.declaration import Options

_O = TypeVar("_O", bound=Options)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notices.")]
_QUIET = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)


def takes(options: type[_O]) -> Callable[[Callable[[_O], None]], Callable[..., None]]:
    """Make a command of a function over options: typer then sees every field as a parameter."""

    def decorate(run: Callable[[_O], None]) -> Callable[..., None]:
        def command(*, quiet: bool, **values: Any) -> None:
            settings.quiet = settings.quiet or quiet
            with exit_codes():
                run(options(**values))

        parameters = [*(_parameter(entry) for entry in _in_help_order(options)), _QUIET]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        command.__doc__ = run.__doc__
        command.__name__ = run.__name__
        return command

    return decorate


def _in_help_order(options: type[Options]) -> list[Field[Any]]:
    # Inherited fields stand first in a dataclass, but matter least to someone who reads --help.
    own = [entry for entry in fields(options) if entry.name in options.__annotations__]
    return own + [entry for entry in fields(options) if entry not in own]


def _parameter(entry: Field[Any]) -> inspect.Parameter:
    told = entry.metadata
    kind: Any = list[str] if entry.type == tuple[str, ...] else entry.type
    if told["parse"]:
        kind = str  # what the parser reads; it gives the field's type
    metavar = told["metavar"] or (entry.name.upper() if told["argument"] else None)
    shared = {"help": told["help"], "metavar": metavar, "parser": told["parse"]}
    if told["argument"]:
        info = typer.Argument(show_default=entry.default is not MISSING, **shared)
    else:
        flags = told["flags"] or (f"--{entry.name.replace('_', '-')}",)
        info = typer.Option(
            *flags, show_default=told["show_default"], rich_help_panel=told["panel"], **shared
        )
    default = inspect.Parameter.empty if entry.default is MISSING else entry.default
    if told["parse"] and default is not None:
        default = str(default)  # typer sends defaults through the parser too
    return inspect.Parameter(
        entry.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, info],
    )
