"""The command line: parse, call one recipe, show what it gives.

The only place that prints or exits. Importing it loads none of the heavy libraries.
"""

import logging
import sys
import warnings
from inspect import cleandoc
from io import TextIOWrapper
from typing import Annotated

import typer

from transferkit import __version__
from transferkit.cli.backbones import backbones
from transferkit.cli.cache import cache
from transferkit.cli.compare import compare
from transferkit.cli.evaluate import evaluate
from transferkit.cli.explain import explain
from transferkit.cli.extract_features import extract_features
from transferkit.cli.finetune import finetune
from transferkit.cli.inspect import inspect
from transferkit.cli.parameters import Quiet
from transferkit.cli.predict import predict
from transferkit.cli.report import report
from transferkit.cli.state import settings
from transferkit.devices import keep_freed_memory
from transferkit.interruption import raise_on_sigterm
from transferkit.startup import begin


def _unfolded(docstring: str | None) -> str:
    """Its paragraphs, a line each: typer keeps line breaks, and terminals have their own width."""
    paragraphs = cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


app = typer.Typer(
    name="transferkit",
    help="Transfer learning on a folder of images: train, measure, predict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    *(finetune, extract_features, predict, evaluate, explain, report, compare),
    *(backbones, inspect, cache),
):
    app.command(command.__name__.replace("_", "-"), help=_unfolded(command.__doc__))(command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"transferkit {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    quiet: Quiet = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    settings.quiet = quiet
    # The libraries underneath log on their own; what matters of it reaches people as our messages.
    logging.disable(logging.ERROR)


def main() -> None:
    """Run the command line and exit."""
    begin()
    raise_on_sigterm()
    keep_freed_memory()
    # File names need not be UTF-8: their bytes go out as they came in.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    # Pillow warns of metadata that leaves the pixels whole, and of large pictures; those that it
    # refuses are told by us.
    warnings.filterwarnings("ignore", module=r"PIL\b")
    app(prog_name="transferkit")
