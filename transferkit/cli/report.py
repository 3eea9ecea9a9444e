"""`transferkit report`."""

from transferkit.cli.invocation import Invocation
from transferkit.cli.parameters import takes
from transferkit.options.report import ReportOptions


@takes(ReportOptions)
def report(options: ReportOptions, invocation: Invocation) -> None:
    """Write the report page of a finished run again.

    Examples:
        transferkit report runs/photos

    The page is one file that opens anywhere: curves, classes, mistakes, likely label errors,
    calibration, features, plan and time. Without the dataset, it shows no images.
    """
    from transferkit.recipes.report import report as recipe

    drawn = recipe(options, invocation.reporter)
    for note in drawn.notes:
        invocation.reporter.notice(note)
    print(f"report: {drawn.output}")
