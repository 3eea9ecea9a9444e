"""The options of `transferkit explain`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transferkit.attribution import Method
from transferkit.devices import Precision
from transferkit.errors import OptionError
from transferkit.options.declaration import Option, Range, given_flags
from transferkit.options.shared import EXPLANATION, OUTPUT, InputOptions, Overwrite


@dataclass(frozen=True)
class ExplainOptions(InputOptions):
    """Options of `transferkit explain`."""

    output: Annotated[
        Path | None,
        Option(
            panel=OUTPUT,
            flags=("-o", "--output"),
            help="Folder for the drawings, one PNG per image.",
            metavar="FOLDER",
            show_default="explanations, explanations-2 and so on",
        ),
    ] = None
    overwrite: Overwrite = False
    method: Annotated[
        Method,
        Option(
            panel=EXPLANATION,
            help="gradcam uses a layer's feature map, integrated-gradients and saliency the "
            "pixels; occlusion hides one part at a time, takes longest, and works with "
            "every classifier.",
        ),
    ] = Method.GRAD_CAM
    layer: Annotated[
        str | None,
        Option(
            panel=EXPLANATION,
            help="For gradcam: a stage or module with a feature map or tokens. See: transferkit "
            "inspect NAME.",
            metavar="NAME",
            show_default="the last stage whose map leads to the classes",
        ),
    ] = None
    top_k: Annotated[
        int,
        Option(
            panel=EXPLANATION,
            help="How many of the most probable classes to explain.",
            within=Range(1, 20),
        ),
    ] = 3
    classes: Annotated[
        tuple[str, ...],
        Option(
            panel=EXPLANATION,
            flags=("--class",),
            help="Class to explain, instead of the most probable ones; repeat for several.",
            metavar="NAME",
            show_default=False,
        ),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes and given_flags(self, ("top_k",)):
            raise OptionError("--top-k picks the most probable classes; leave it out with --class")
        if self.precision not in (Precision.AUTO, Precision.FP32):
            raise OptionError(
                f"--precision: got {self.precision}, but gradients are computed in fp32; leave the "
                "option out"
            )
