"""Options of a command from a file: the parameters of every command about it, and saving it."""

import inspect
import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from transferkit.cli.exits import exit_codes
from transferkit.errors import OutputError
from transferkit.files import whole_file
from transferkit.options.declaration import Options, declared_options
from transferkit.options.settings_file import format_settings, read_settings
from transferkit.options.settings_schema import settings_schema
from transferkit.places import place

_SETTINGS = "Settings"


def settings_parameters(options: type[Options]) -> list[inspect.Parameter]:
    """Return the parameters about settings files, the same in every command."""

    def read(context: typer.Context, value: str | None) -> dict[str, Any] | None:
        if value is None or context.resilient_parsing:
            return None
        with exit_codes():
            settings = read_settings(place(value), options)
        # Typer asks for required arguments, whose values here only say that there are some.
        required = [d for d in declared_options(options) if d.is_required and d.name in settings]
        context.default_map = {d.name: [""] if d.option.convert else "" for d in required}
        return settings

    def print_schema(context: typer.Context, asked: bool) -> None:
        if asked and not context.resilient_parsing:
            typer.echo(json.dumps(settings_schema(options, _command(context)), indent=2))
            raise typer.Exit

    config = typer.Option(
        "--config",
        help="Take options from a TOML file with lines such as epochs = 20, or those of a run from "
        "its folder; options of the command line come first.",
        metavar="FILE|RUN",
        show_default=False,
        is_eager=True,
        callback=read,
        parser=str,
        rich_help_panel=_SETTINGS,
    )
    save = typer.Option(
        "--save-config",
        help="Write the options as given to a TOML file and stop.",
        metavar="FILE",
        show_default=False,
        rich_help_panel=_SETTINGS,
    )
    schema = typer.Option(
        "--config-schema",
        help="Print the JSON schema of the TOML file, for editors, and stop.",
        is_eager=True,
        callback=print_schema,
        rich_help_panel=_SETTINGS,
    )
    return [
        _keyword("config", Annotated[str, config], None),
        _keyword("save_config", Annotated[str, save], None),
        _keyword("config_schema", Annotated[bool, schema], False),
    ]


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def save_settings(
    file: str, options: Options, names: Iterable[str], context: typer.Context
) -> None:
    """Write those named options to a settings file, and print where.

    Raises:
        OptionError: When one of them cannot be written.
        OutputError: When the file exists or cannot be written.
    """
    text, found = format_settings(options, names, _command(context)), place(file)
    if found.exists():
        raise OutputError(f"--save-config: {file} already exists; name another file, or remove it")
    with whole_file(found) as temporary:
        temporary.write_text(text, "utf-8")
    print(f"settings: {file}")


def _command(context: typer.Context) -> str:
    return context.info_name or ""
