"""`transferkit explain`."""

import sys

import typer

from transferkit.cli.console import inert
from transferkit.cli.exits import SOME_LEFT_OUT, write_result
from transferkit.cli.parameters import takes
from transferkit.cli.state import settings
from transferkit.options.commands import ExplainOptions


@takes(ExplainOptions)
def explain(options: ExplainOptions) -> None:
    """Show where in pictures a model sees its classes.

    One PNG an input: what the network saw of the picture, and beside it a heat over it for each
    of the most probable classes. A line an input; for one that cannot be read it says why, and
    the exit code is then 3.

    Example: transferkit explain new_photos/*.jpg -m runs/photos-resnet18-partial -o why
    """
    from transferkit.recipes.explain import explain as recipe

    failed = 0
    for explanation in recipe(options, settings.reporter(), listed=sys.stdin):
        if explanation.error is not None:
            failed += 1
            line = f"{explanation.path}: error: {explanation.error}"
        else:
            told = ", ".join(f"{label} {value:.3f}" for label, value in explanation.classes)
            line = f"{explanation.picture}: {told}"
        write_result(inert(line) + "\n")
    if failed:
        raise typer.Exit(SOME_LEFT_OUT)
