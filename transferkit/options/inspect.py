"""The options of `transferkit inspect`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transferkit.errors import OptionError
from transferkit.models import PRETRAINED
from transferkit.options.declaration import Option, Options, Range, given_flags
from transferkit.options.parsers import size_in_pixels
from transferkit.options.shared import (
    BACKBONE_HELP,
    DEFAULT_BACKBONE,
    DRAWINGS,
    IMAGE_SIZE_HELP,
    MODEL,
    MODEL_HELP,
    WEIGHTS_HELP,
)


@dataclass(frozen=True)
class InspectOptions(Options):
    """Options of `transferkit inspect`."""

    backbone: Annotated[str | None, Option(argument=True, help=BACKBONE_HELP)] = None
    model: Annotated[
        str | None,
        Option(
            panel=MODEL,
            flags=("-m", "--model"),
            help=f"Instead of BACKBONE: {MODEL_HELP}",
            metavar="RUN",
            show_default=False,
        ),
    ] = None
    weights: Annotated[
        str, Option(panel=MODEL, help=f"For drawings; the table needs none: {WEIGHTS_HELP}")
    ] = PRETRAINED
    image_size: Annotated[
        int | tuple[int, int] | None,
        Option(
            help=IMAGE_SIZE_HELP,
            within=Range(1, 65536),
            parse=size_in_pixels,
            metavar="N|HxW",
            show_default="the backbone's",
        ),
    ] = None
    all_modules: Annotated[
        bool,
        Option(
            flags=("--all",),
            help="Also list containers, and the activations within layers.",
        ),
    ] = False
    kernels: Annotated[
        bool,
        Option(
            panel=DRAWINGS,
            flags=("--kernels",),
            help="Draw the kernels of the first convolution instead of printing the table.",
        ),
    ] = False
    activations: Annotated[
        Path | None,
        Option(
            panel=DRAWINGS,
            help="Draw feature maps of this image, one file per layer, instead of printing the "
            "table.",
            metavar="IMAGE",
            show_default=False,
        ),
    ] = None
    layer: Annotated[
        tuple[str, ...],
        Option(
            panel=DRAWINGS,
            flags=("--layer",),
            help="With --activations: layer to draw, as the table names it; repeat for several.",
            metavar="NAME",
            show_default="every stage",
        ),
    ] = ()
    channels: Annotated[
        int,
        Option(
            panel=DRAWINGS,
            help="With --activations: how many channels to draw per layer, those that vary most.",
            within=Range(1, 400),
        ),
    ] = 16
    output: Annotated[
        Path | None,
        Option(
            panel=DRAWINGS,
            flags=("-o", "--output"),
            help="Folder for the drawings.",
            metavar="FOLDER",
            show_default="inspect/NAME, inspect/NAME-2 and so on",
        ),
    ] = None
    overwrite: Annotated[
        bool, Option(panel=DRAWINGS, flags=("--overwrite",), help="Replace existing files.")
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.backbone is None) == (self.model is None):
            raise OptionError(
                f"expected one of BACKBONE and --model: transferkit inspect {DEFAULT_BACKBONE}"
            )
        if self.model and self.weights != PRETRAINED:
            raise OptionError("--model has its own weights; leave out --weights")
        if self.activations is None and (given := given_flags(self, ("layer", "channels"))):
            raise OptionError(
                f"{given[0]} needs --activations IMAGE; leave it out to print the table"
            )
        if not self.draws and (given := given_flags(self, ("weights", "output", "overwrite"))):
            raise OptionError(
                f"{given[0]} is for --kernels and --activations; leave it out to print the table"
            )
        if self.draws and self.all_modules:
            raise OptionError("--all is for the table; leave out --kernels and --activations")

    @property
    def draws(self) -> bool:
        """Whether the command draws anything."""
        return self.kernels or self.activations is not None
