"""Sphinx directive that documents every command and option as the package declares them.

The text is written from the commands' docstrings and from the options classes each time the site
is built, so it cannot differ from what the command line does. A new command or option appears
without a change here.
"""

import pkgutil
import re
from collections.abc import Iterator
from dataclasses import MISSING
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import typer.main
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import transferkit.options
from transferkit.cli import app
from transferkit.options.declaration import DeclaredOption, OnResume, Options, declared_options

_PLACEHOLDERS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def command_names() -> tuple[str, ...]:
    """Return the names of all commands, in the order of `transferkit --help`."""
    return tuple(typer.main.get_command(app).commands)


def options_of(command: str) -> tuple[DeclaredOption, ...]:
    """Return the options of a command, its own before those it shares with other commands.

    Raises:
        KeyError: When no options class has the command's name: `ExtractFeaturesOptions` for
            `extract-features`.
    """
    words = command.split("-")
    options = _options_classes()["".join(word.capitalize() for word in words) + "Options"]
    declared = declared_options(options)
    own = [option for option in declared if option.name in options.__annotations__]
    return (*own, *(option for option in declared if option not in own))


def reference_of(command: str) -> str:
    """Return the MyST text of one command: usage, description, and every option by panel."""
    program = f"transferkit {command}"
    options = options_of(command)
    arguments = [option for option in options if option.option.argument]
    flagged = [option for option in options if not option.option.argument]
    panels = dict.fromkeys(option.option.panel for option in flagged)
    parts = [
        f"(command-{command})=\n## {command}",
        f"```text\n{program} {' '.join(map(_usage, arguments))} [OPTIONS]\n```",
        *_description(command),
        f"```{{program}} {program}\n```",
        *map(_entry, arguments),
    ]
    for panel in panels:
        parts.append(f"### {panel}" if panel != "Options" else "### Other options")
        parts += [_entry(option) for option in flagged if option.option.panel == panel]
    return "\n\n".join(parts) + "\n"


class CommandReference(SphinxDirective):
    """`{command-reference}`: a section for every command."""

    def run(self) -> list[nodes.Node]:
        """Return the sections of all commands."""
        # The declarations are no source files of Sphinx, so it cannot see when they change.
        self.env.note_reread()
        text = "\n".join(map(reference_of, command_names()))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive with Sphinx."""
    app.add_directive("command-reference", CommandReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _options_classes() -> dict[str, type[Options]]:
    """Return every options class of the package by its name."""
    found = {}
    for entry in pkgutil.iter_modules(transferkit.options.__path__, "transferkit.options."):
        for name, value in vars(import_module(entry.name)).items():
            if isinstance(value, type) and issubclass(value, Options):
                found[name] = value
    return found


def _description(command: str) -> Iterator[str]:
    """Yield the paragraphs of a command's help, its example as a block."""
    for paragraph in (typer.main.get_command(app).commands[command].help or "").split("\n\n"):
        head, is_example, example = paragraph.partition("Example: ")
        if is_example and not head:
            yield f"```text\n$ {example}\n```"
        else:
            yield _escaped(paragraph)


def _argument_name(argument: DeclaredOption) -> str:
    return argument.option.metavar or argument.name.upper()


def _usage(argument: DeclaredOption) -> str:
    name = _argument_name(argument) + ("..." if get_origin(argument.type) is tuple else "")
    return name if argument.is_required else f"[{name}]"


def _entry(declared: DeclaredOption) -> str:
    """Return an option as Sphinx's own directive, which links and indexes it."""
    value = _placeholder(declared)
    flags = (_argument_name(declared),) if declared.option.argument else declared.flags
    names = [name for flag in flags for name in flag.split("/")]
    signature = ", ".join(f"{name} {value}".rstrip() for name in names)
    facts = " ".join(f"{fact}." for fact in _facts(declared))
    body = "\n\n".join(filter(None, (_escaped(declared.option.help), facts)))
    return f"````{{option}} {signature}\n{body}\n````"


def _facts(declared: DeclaredOption) -> Iterator[str]:
    """Yield what holds of an option besides its help: range, default, repetition, resuming."""
    option = declared.option
    if option.within is not None:
        yield f"Range: {option.within}"
    if declared.is_required:
        yield "Required"
    elif default := _default(declared):
        yield f"Default: {default}"
    if get_origin(declared.type) is tuple and not option.argument:
        yield "May be given more than once"
    if option.on_resume is OnResume.FREE:
        yield "May change when a run is resumed"


def _default(declared: DeclaredOption) -> str:
    shown, default = declared.option.show_default, declared.default
    if isinstance(shown, str):
        return _escaped(shown)
    if not shown or default in (None, MISSING, ()):
        return ""
    if isinstance(default, bool):
        flag = declared.flags[-1].split("/")[0]
        return f"`{flag}`" if default else ""
    values = default if isinstance(default, tuple) else (default,)
    return ", ".join(f"`{_number(value)}`" for value in values)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _placeholder(declared: DeclaredOption) -> str:
    """Return what stands for the value: nothing for a switch and for an argument."""
    if declared.option.argument or declared.type is bool:
        return ""
    if declared.option.metavar:
        return declared.option.metavar
    return "|".join(_choices(declared)) or _PLACEHOLDERS[_kinds(declared)[0]]


def _choices(declared: DeclaredOption) -> tuple[str, ...]:
    first = _kinds(declared)[0]
    return tuple(first) if isinstance(first, type) and issubclass(first, StrEnum) else ()


def _kinds(declared: DeclaredOption) -> list[Any]:
    """Return the types a value may have, without None and the dots of a tuple."""
    kinds = get_args(declared.type) or (declared.type,)
    return [kind for kind in kinds if kind not in (NoneType, Ellipsis)]


def _escaped(text: str) -> str:
    """Return plain text as MyST that renders the same; flags and upper-case words as code."""
    text = re.sub(r"([\\*_<>\[\]`$|])", r"\\\1", text)
    return re.sub(r"(?<![\w/-])(--?[a-z][a-z-]*)", r"`\1`", text)
