"""The options of `transferkit export`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transferkit.engines import ExportFormat, Quantize
from transferkit.errors import OptionError
from transferkit.models import HUB_PREFIX
from transferkit.options.declaration import Option, Options, Range, given_flags
from transferkit.options.shared import MODEL, OUTPUT, MovedData, Overwrite, Workers

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
