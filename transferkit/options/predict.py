"""The options of `transferkit predict`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transferkit.data.walk import SUFFIXES
from transferkit.engines import Engine
from transferkit.errors import OptionError
from transferkit.options.answering import (
    Accuracy,
    MinConfidence,
    Sets,
    TopK,
    require_one_threshold,
)
from transferkit.options.cluster import ClusterOptions
from transferkit.options.declaration import OnResume, Option, Range, given_flags
from transferkit.options.shared import (
    EXPORTED_HELP,
    MODEL,
    OUTPUT,
    SORTING,
    EngineOption,
    InputOptions,
    Tta,
)
from transferkit.places import Place
from transferkit.tables import format_of
from transferkit.tables.predictions import PredictionFormat
from transferkit.tables.sort_log import By


@dataclass(frozen=True)
class PredictOptions(ClusterOptions, InputOptions):
    """Options of `transferkit predict`."""

    model: Annotated[
        str | None,
        Option(
            panel=MODEL,
            flags=("-m", "--model"),
            help=EXPORTED_HELP,
            metavar="RUN",
            show_default=False,
        ),
    ] = None
    engine: EngineOption = Engine.AUTO
    top_k: TopK = 5
    min_confidence: MinConfidence = 0.0
    accuracy: Accuracy = None
    sets: Sets = None
    tta: Tta = False
    format: Annotated[
        PredictionFormat | None,
        Option(
            panel=OUTPUT,
            help="Format of the output.",
            on_resume=OnResume.CALL,
            show_default="by the file's suffix; else table in a terminal, jsonl in a pipe",
        ),
    ] = None
    output: Annotated[
        Place | None,
        Option(
            panel=OUTPUT,
            flags=("-o", "--output"),
            help="File to write; with --on, a folder of Parquet files.",
            on_resume=OnResume.CALL,
            metavar="FILE",
            show_default="standard output",
        ),
    ] = None

    least_sure: Annotated[
        int | None,
        Option(
            panel=OUTPUT,
            help="Write only the records of this many images, whose label would teach the model "
            "most: those with the smallest difference of the two highest probabilities (margin "
            "sampling).",
            within=Range(1),
            on_resume=OnResume.CALL,
            metavar="N",
            show_default=False,
        ),
    ] = None
    sort_into: Annotated[
        Path | None,
        Option(
            panel=SORTING,
            help="Sort the images into this folder: one folder per class, unsure for images "
            "without a label, and unreadable. sorted.csv lists each image. The same command again "
            "sorts what is left.",
            on_resume=OnResume.CALL,
            metavar="DIR",
            show_default=False,
        ),
    ] = None
    by: Annotated[
        By,
        Option(
            panel=SORTING,
            help="With --sort-into: how an image gets into its folder.",
            on_resume=OnResume.CALL,
        ),
    ] = By.LINK

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_output()
        self._check_least_sure()
        self._check_sorting()
        require_one_threshold(self)
        for flag, value in (("--accuracy", self.accuracy), ("--sets", self.sets)):
            if value is not None and self.model is None:
                raise OptionError(
                    f"{flag} needs a model whose confidence was measured; name your run with "
                    "--model"
                )

    def _check_output(self) -> None:
        if self.on is None:
            if self.resume:
                raise OptionError("--resume is for --on; leave it out, or add --on ray")
            self._check_file()
            return
        if self.output is None:
            raise OptionError("--on writes a folder of Parquet files; name it with --output")
        if self.format not in (None, PredictionFormat.PARQUET):
            raise OptionError(f"--on writes Parquet files, got --format {self.format}")

    def _check_file(self) -> None:
        if self.output is None:
            if self.format is PredictionFormat.PARQUET:
                raise OptionError(
                    "--format: parquet needs a file; name it with --output FILE.parquet"
                )
            return
        if self.output.suffix.lower() in SUFFIXES:
            raise OptionError(f"--output: got {self.output}, which would replace an image")
        if self.file_format is PredictionFormat.TABLE:
            raise OptionError(
                "--format: table is only for the terminal; a file takes json, jsonl, csv or parquet"
            )

    @property
    def file_format(self) -> PredictionFormat:
        """The format of the output, as it is given or by the name of the file.

        Raises:
            OptionError: When neither says it.
        """
        assert self.output is not None
        named: PredictionFormat = self.format or format_of(
            self.output, PredictionFormat, "--output"
        )
        return named

    def _check_least_sure(self) -> None:
        if self.least_sure is None:
            return
        if self.on is not None:
            raise OptionError("--least-sure compares all records; leave it out, or --on")
        if self.top_k < 2:
            raise OptionError(
                f"--least-sure compares the two most probable classes, got --top-k {self.top_k}; "
                "expected 2 or more"
            )

    def _check_sorting(self) -> None:
        if self.sort_into is None:
            if given := given_flags(self, ("by",)):
                raise OptionError(
                    f"{given[0]} is for --sort-into; leave it out, or add --sort-into DIR"
                )
            return
        for flag, value in (("--on", self.on), ("--least-sure", self.least_sure)):
            if value is not None:
                raise OptionError(f"--sort-into sorts all images in one process; leave out {flag}")
        if self.output is None and self.format is not None:
            raise OptionError(
                "--format is for records, which --sort-into writes to a file only; name it with "
                "--output, or leave --format out"
            )
        if self.output is not None and self.by is By.MOVE:
            raise OptionError(
                "--output: the records would name images that --by move has taken away; leave it "
                "out, because sorted.csv lists each image, or write the records first"
            )
