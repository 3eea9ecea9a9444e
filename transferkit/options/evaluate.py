"""The options of `transferkit evaluate`."""

from dataclasses import dataclass
from typing import Annotated

from transferkit.options.dataset_options import FolderOptions
from transferkit.options.declaration import Option
from transferkit.options.shared import EXPORTED_HELP, MODEL, OUTPUT, Data, Overwrite, Tta
from transferkit.places import Place


@dataclass(frozen=True)
class EvaluateOptions(FolderOptions):
    """Options of `transferkit evaluate`."""

    data: Data
    model: Annotated[
        str, Option(panel=MODEL, flags=("-m", "--model"), help=EXPORTED_HELP, metavar="RUN")
    ]
    output: Annotated[
        Place | None,
        Option(
            panel=OUTPUT,
            flags=("-o", "--output"),
            help="JSON file for the metrics.",
            metavar="FILE",
            show_default="standard output",
        ),
    ] = None
    overwrite: Overwrite = False
    tta: Tta = False
