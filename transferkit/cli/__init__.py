"""The command line: parse the options, call one recipe, and show its result.

Nothing else in the package prints or exits. Importing this loads none of the heavy libraries.
"""

import logging
import os
import sys
import time
import warnings
from inspect import cleandoc
from io import TextIOWrapper
from typing import Annotated

import typer

from transferkit import __version__
from transferkit.cli.audit import audit
from transferkit.cli.backbones import backbones
from transferkit.cli.cache import cache
from transferkit.cli.compare import compare
from transferkit.cli.deferred_compiler import defer_compiler
from transferkit.cli.evaluate import evaluate
from transferkit.cli.explain import explain
from transferkit.cli.export import export
from transferkit.cli.extract_features import extract_features
from transferkit.cli.finetune import finetune
from transferkit.cli.inspect import inspect
from transferkit.cli.invocation import Invocation, create_reporter
from transferkit.cli.parameters import Quiet
from transferkit.cli.predict import predict
from transferkit.cli.report import report
from transferkit.cli.serve import serve
from transferkit.devices import keep_freed_memory
from transferkit.interruption import end_with_parent, raise_on_sigterm
from transferkit.processes import started_processes


def _unwrapped(docstring: str | None) -> str:
    """Join each paragraph to one line, because typer would keep the source's line breaks.

    The lines of the examples stay apart: that is what typer makes of an indent after a marker.
    """
    paragraphs = cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(
        f"\b\n{paragraph}" if paragraph.startswith("Examples:") else paragraph.replace("\n", " ")
        for paragraph in paragraphs
    )


app = typer.Typer(
    name="transferkit",
    help="Transfer learning on a folder of images: train, measure, predict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    *(finetune, extract_features, predict, evaluate, explain, serve, report, compare, audit),
    *(backbones, inspect, export, cache),
):
    app.command(command.__name__.replace("_", "-"), help=_unwrapped(command.__doc__))(command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"transferkit {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    quiet: Quiet = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    context.obj = Invocation(create_reporter(quiet), began=context.obj)
    # Libraries log on their own; whatever users must know reaches them as one of our messages.
    logging.disable(logging.ERROR)


def main() -> None:
    """Run the command line and exit."""
    began = time.perf_counter()
    defer_compiler()
    raise_on_sigterm()
    if started_processes().are_several:
        end_with_parent()
        # torch would warn of settings that are intended, from below Python.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    keep_freed_memory()
    # File names need not be UTF-8; this prints their bytes unchanged.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    # Pillow warns about harmless metadata and about large images. Images that it refuses are
    # reported with the other unreadable ones.
    warnings.filterwarnings("ignore", module=r"PIL\b")
    app(prog_name="transferkit", obj=began)
