"""From an options class to a command's parameters: each option is declared there alone."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from transferkit.cli.exits import exit_codes
from transferkit.cli.state import settings
from transferkit.options.declaration import DeclaredOption, Options, declared_options

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


def _in_help_order(options: type[Options]) -> list[DeclaredOption]:
    # Inherited fields come first in a dataclass, but matter least to someone who reads --help.
    declared = declared_options(options)
    own = [entry for entry in declared if entry.name in options.__annotations__]
    return own + [entry for entry in declared if entry not in own]


def _parameter(declared: DeclaredOption) -> inspect.Parameter:
    option = declared.option
    kind: Any = list[str] if declared.type == tuple[str, ...] else declared.type
    if option.parse:
        kind = str  # what the parser reads; it returns the field's type
    metavar = option.metavar or (declared.name.upper() if option.argument else None)
    shared: dict[str, Any] = {"help": option.help, "metavar": metavar, "parser": option.parse}
    info: Any
    if option.argument:
        info = typer.Argument(show_default=not declared.is_required, **shared)
    else:
        info = typer.Option(
            *declared.flags,
            show_default=option.show_default,
            rich_help_panel=option.panel,
            **shared,
        )
    default = inspect.Parameter.empty if declared.is_required else declared.default
    if option.parse and default is not None:
        default = str(default)  # typer sends defaults through the parser too
    return inspect.Parameter(
        declared.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, info],
    )
