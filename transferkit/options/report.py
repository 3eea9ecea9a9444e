"""The options of `transferkit report`."""

from dataclasses import dataclass
from typing import Annotated

from transferkit.options.declaration import Option
from transferkit.options.shared import OUTPUT, ComputeOptions, MovedData, Overwrite
from transferkit.places import Place


@dataclass(frozen=True)
class ReportOptions(ComputeOptions):
    """Options of `transferkit report`."""

    run: Annotated[Place, Option(argument=True, help="Folder of a finished run.")]
    data: MovedData = None
    output: Annotated[
        Place | None,
        Option(
            panel=OUTPUT,
            flags=("-o", "--output"),
            help="File to write.",
            metavar="FILE",
            show_default="RUN/report.html, which is drawn again",
        ),
    ] = None
    overwrite: Overwrite = False
