"""`transferkit explain`."""

import sys

import typer

from transferkit.cli.console import inert
from transferkit.cli.exits import SOME_LEFT_OUT, write_result
from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.options.explain import ExplainOptions


@takes(ExplainOptions)
def explain(options: ExplainOptions, invocation: Invocation) -> None:
    """Show which parts of an image a model's predictions rest on.

    Examples:
        transferkit explain new_photos/*.jpg -m runs/photos -o why

    Writes one PNG per input: the image as the network sees it, and beside it a heat map for each
    of the most probable classes. Prints one line per input. For an image that cannot be read, the
    line says why, and the exit code is 3.
    """
    from transferkit.recipes.explain import explain as recipe

    failed = 0
    for explanation in recipe(options, invocation.reporter, listed=sys.stdin):
        if explanation.error is not None:
            failed += 1
            line = f"{explanation.path}: error: {explanation.error}"
        else:
            classes = ", ".join(f"{label} {value:.3f}" for label, value in explanation.classes)
            line = f"{explanation.drawing}: {classes}"
        write_result(inert(line) + "\n")
    if failed:
        raise typer.Exit(SOME_LEFT_OUT)
