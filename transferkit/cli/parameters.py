"""Turn an options class into a command's parameters, so that each option is declared only once."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer

from transferkit.cli.exits import exit_codes
from transferkit.cli.invocation import Invocation
from transferkit.cli.settings_parameters import save_settings, settings_parameters
from transferkit.errors import OptionError
from transferkit.options.declaration import (
    DeclaredOption,
    Options,
    create_options,
    declared_options,
    option_names,
)
from transferkit.processes import started_processes
from transferkit.reporter import SILENT

_O = TypeVar("_O", bound=Options)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notices.")]
_QUIET = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)
_CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def takes(
    options: type[_O],
) -> Callable[[Callable[[_O, Invocation], None]], Callable[..., None]]:
    """Make a command of a function whose first parameter is an options object.

    Typer sees every field of the options class as a parameter of the command, `--quiet`, and those
    of settings files. The command reads its `Invocation` from the context, where the global options
    leave it.
    """

    def decorate(run: Callable[[_O, Invocation], None]) -> Callable[..., None]:
        def command(
            *,
            context: typer.Context,
            quiet: bool,
            config: dict[str, Any] | None,
            save_config: str | None,
            config_schema: bool,
            **values: Any,
        ) -> None:
            invocation: Invocation = context.obj
            if quiet:
                invocation = replace(invocation, reporter=SILENT)
            words = {name: value for name, value in values.items() if _is_given(context, name)}
            given = {**(config or {}), **words}
            with exit_codes():
                _require_one_process(options)
                chosen = create_options(options, **given)
                if save_config:
                    save_settings(save_config, chosen, given, context)
                else:
                    run(chosen, invocation)

        declared = [_parameter(entry) for entry in _in_help_order(options)]
        parameters = [_CONTEXT, *declared, *settings_parameters(options), _QUIET]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        command.__doc__ = run.__doc__
        command.__name__ = run.__name__
        return command

    return decorate


def _require_one_process(options: type[Options]) -> None:
    """Check that a command that one process carries out was not started several times.

    Raises:
        OptionError: When it was.
    """
    if started_processes().are_several and "processes" not in option_names(options):
        raise OptionError(
            "this command runs in one process, and torchrun has started several (WORLD_SIZE is "
            f"{started_processes().count}); start it without torchrun"
        )


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and not source.name.startswith("DEFAULT")


def _in_help_order(options: type[Options]) -> list[DeclaredOption]:
    # A dataclass lists inherited fields first, but readers of --help look for a command's own.
    declared = declared_options(options)
    own = [entry for entry in declared if entry.name in options.__annotations__]
    return own + [entry for entry in declared if entry not in own]


def _parameter(declared: DeclaredOption) -> inspect.Parameter:
    return inspect.Parameter(
        declared.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=_default(declared),
        annotation=Annotated[_command_line_type(declared), _typer_info(declared)],
    )


def _default(declared: DeclaredOption) -> Any:
    if declared.is_required:
        return inspect.Parameter.empty
    if declared.option.parse and declared.default is not None:
        return str(declared.default)  # typer passes defaults through the parser too
    return declared.default


def _command_line_type(declared: DeclaredOption) -> Any:
    if declared.option.parse:
        return str  # what the parser reads; it returns the field's type
    if _is_path(declared):
        return Path
    if declared.option.convert:
        return list[str]
    kinds = get_args(declared.type)
    return list[kinds[0]] if kinds[1:] == (Ellipsis,) else declared.type  # type: ignore[valid-type]


def _typer_info(declared: DeclaredOption) -> Any:
    option = declared.option
    metavar = option.metavar or (declared.name.upper() if option.argument else None)
    parser = _parser(option.parse) if option.parse else path if _is_path(declared) else None
    shared: dict[str, Any] = {"help": option.help, "metavar": metavar, "parser": parser}
    if option.argument:
        return typer.Argument(show_default=not declared.is_required, **shared)
    return typer.Option(
        *declared.flags,
        show_default=option.show_default,
        rich_help_panel=option.panel,
        **shared,
    )


def _is_path(declared: DeclaredOption) -> bool:
    return Path in (declared.type, *get_args(declared.type))


def path(text: str) -> str:
    """Return the text of a path, of which typer's would make a folder "s3:" from an address."""
    return text


def _parser(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let an `OptionError` of the parser end the command as it does later; typer shows others."""

    def parsed(text: str) -> Any:
        with exit_codes():
            return parse(text)

    return parsed
