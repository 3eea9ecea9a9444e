"""Options of all commands but `finetune`, `predict` and `compare`, which have their own modules.

The command line and the reference are generated from these classes, and Python callers pass the
same options as keywords. Importing this module does not import torch.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transferkit.attribution import Method
from transferkit.devices import Precision
from transferkit.engines import ExportFormat, Quantize
from transferkit.errors import OptionError
from transferkit.models import HUB_PREFIX, PRETRAINED
from transferkit.options.cluster import ClusterOptions
from transferkit.options.dataset_options import ClassifierOptions, FolderOptions
from transferkit.options.declaration import (
    AppliesTo,
    OnResume,
    Option,
    Options,
    Range,
    given_flags,
    option_names,
    size_in_pixels,
)
from transferkit.options.shared import (
    BACKBONE_HELP,
    DATA,
    DATA_HELP,
    DEFAULT_BACKBONE,
    DRAWINGS,
    EXPLANATION,
    EXPORTED_HELP,
    IMAGE_SIZE_HELP,
    MODEL,
    MODEL_HELP,
    OUTPUT,
    WEIGHTS_HELP,
    ComputeOptions,
    InputOptions,
    Overwrite,
    Tta,
    Workers,
    require_one_network,
)
from transferkit.places import Place
from transferkit.tables.feature_table import FeatureFormat

MovedData = Annotated[
    Place | None,
    Option(
        panel=DATA,
        help="Folder of the run's dataset, if it has moved.",
        metavar="DIR",
        show_default="where it was",
    ),
]


@dataclass(frozen=True)
class ExtractFeaturesOptions(ClusterOptions, ClassifierOptions):
    """Options of `transferkit extract-features`."""

    data: Annotated[Place, Option(argument=True, help=DATA_HELP, on_resume=OnResume.CALL)]
    output: Annotated[
        Place,
        Option(
            panel=OUTPUT,
            flags=("-o", "--output"),
            metavar="FILE|FOLDER",
            help=f"File to write, with one of the suffixes {', '.join(FeatureFormat)}; with "
            "--classifier, the folder of a run; with --on, a folder of Parquet files.",
            on_resume=OnResume.CALL,
        ),
    ]
    backbone: Annotated[
        str | None,
        Option(
            panel=MODEL,
            flags=("-b", "--backbone"),
            help=BACKBONE_HELP,
            show_default=DEFAULT_BACKBONE,
        ),
    ] = None
    weights: Annotated[str, Option(panel=MODEL, help=WEIGHTS_HELP)] = PRETRAINED
    model: Annotated[
        str | None,
        Option(
            panel=MODEL,
            flags=("-m", "--model"),
            help=f"Instead of --backbone: {MODEL_HELP}",
            metavar="RUN",
            show_default=False,
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_network(self.model, self.backbone, self.weights)
        if self.classifier and self.on:
            raise OptionError("--on writes features alone; leave out --on or --classifier")
        if self.classifier and self.resume:
            raise OptionError("--resume continues a file of features; leave out --classifier")
        if self.classifier is None and (
            given := given_flags(self, option_names(self, applies_to=AppliesTo.FITTING))
        ):
            raise OptionError(f"{given[0]} needs a --classifier; name one, or leave the option out")


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


@dataclass(frozen=True)
class EvaluateOptions(FolderOptions):
    """Options of `transferkit evaluate`."""

    data: Annotated[Place, Option(argument=True, help=DATA_HELP)]
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


_SUFFIXES = {ExportFormat.ONNX: ".onnx", ExportFormat.OPENVINO: ".xml", ExportFormat.TORCH: ".pt2"}


@dataclass(frozen=True)
class ExportOptions(Options):
    """Options of `transferkit export`."""

    run: Annotated[Path, Option(argument=True, help="A finished run, or its model/ folder.")]
    output: Annotated[
        Path | None,
        Option(
            panel=OUTPUT,
            flags=("-o", "--output"),
            help="File to write: .onnx, .xml (OpenVINO, with a .bin beside it) or .pt2 (torch). By "
            "default it becomes part of the run, and predict -m RUN then needs no torch.",
            metavar="FILE",
            show_default="RUN/model/model.onnx",
        ),
    ] = None
    format: Annotated[
        ExportFormat | None,
        Option(panel=OUTPUT, help="Format of the file.", show_default="by the file's suffix"),
    ] = None
    overwrite: Overwrite = False
    to: Annotated[
        str | None,
        Option(
            panel=OUTPUT,
            help="Upload the model's folder to a model hub instead, with a card that describes it. "
            "It needs `hf auth login`, or HF_TOKEN.",
            metavar="hf-hub:OWNER/NAME",
            show_default=False,
        ),
    ] = None
    private: Annotated[
        bool, Option(panel=OUTPUT, help="With --to: a repository that only you can see.")
    ] = False
    quantize: Annotated[
        Quantize,
        Option(
            panel=MODEL,
            help="int8 makes the file about a quarter of the size; calibrated on training images.",
        ),
    ] = Quantize.NONE
    max_drop: Annotated[
        float,
        Option(
            panel=MODEL,
            help="With int8: largest loss of accuracy on the validation images; beyond it nothing "
            "is written.",
            within=Range(0, 1),
        ),
    ] = 0.02
    data: MovedData = None
    workers: Workers = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_hub()
        if self.quantize is Quantize.INT8 and self.resolved_format is not ExportFormat.ONNX:
            raise OptionError(f"--quantize: int8 is for ONNX, got {self.resolved_format}")
        if self.output is None and self.resolved_format is not ExportFormat.ONNX:
            raise OptionError(
                f"--format: {self.resolved_format} needs a file; name it with --output "
                f"FILE{_SUFFIXES[self.resolved_format]}"
            )
        if self.output and self.output.suffix != _SUFFIXES[self.resolved_format]:
            raise OptionError(
                f"--output: got {self.output}; a file of the format {self.resolved_format} ends in "
                f"{_SUFFIXES[self.resolved_format]}"
            )

    def _check_hub(self) -> None:
        if self.to is None:
            if self.private:
                raise OptionError("--private is for --to; leave it out, or add --to")
            return
        if not re.fullmatch(rf"{HUB_PREFIX}[\w.-]+/[\w.-]+", self.to):
            raise OptionError(f"--to: got {self.to}, expected {HUB_PREFIX}OWNER/NAME")
        if given := given_flags(self, ("output", "format", "quantize", "max_drop", "data")):
            raise OptionError(
                f"{given[0]} is for a file, and --to uploads the model as it is; leave one out"
            )

    @property
    def resolved_format(self) -> ExportFormat:
        """The format given, or that of the file's suffix."""
        by_suffix = {suffix: kind for kind, suffix in _SUFFIXES.items()}
        suffix = self.output.suffix if self.output else ""
        return self.format or by_suffix.get(suffix, ExportFormat.ONNX)


@dataclass(frozen=True)
class CacheOptions(Options):
    """Options of `transferkit cache`."""

    entries: Annotated[
        tuple[str, ...],
        Option(argument=True, help="Names of cache entries; all of them if none is given."),
    ] = ()
    clear: Annotated[bool, Option(flags=("--clear",), help="Remove these entries.")] = False


@dataclass(frozen=True)
class BackbonesOptions(Options):
    """Options of `transferkit backbones`."""

    pattern: Annotated[
        str, Option(argument=True, help="Part of the name, or a pattern with * and ?.")
    ] = "*"
    local: Annotated[
        bool,
        Option(flags=("--local",), help="List only backbones whose weights are on this machine."),
    ] = False


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
