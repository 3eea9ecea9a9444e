"""`transferkit report`."""

import sys

from transferkit.cli.console import inert
from transferkit.cli.parameters import takes
from transferkit.cli.state import settings
from transferkit.options.commands import ReportOptions


@takes(ReportOptions)
def report(options: ReportOptions) -> None:
    """Draw the page of a finished run again.

    One file that opens anywhere: curves, classes, mistakes, likely label errors, calibration,
    features, plan and time. Needs the run's folder; without the dataset it shows no pictures.

    Example: transferkit report runs/photos-resnet18-partial
    """
    from transferkit.recipes.report import report as recipe

    drawn = recipe(options, settings.reporter())
    if not settings.quiet:
        for note in drawn.notes:
            print(inert(note), file=sys.stderr)
    print(f"report: {drawn.output}")
