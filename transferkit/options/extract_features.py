"""The options of `transferkit extract-features`."""

from dataclasses import dataclass
from typing import Annotated

from transferkit.errors import OptionError
from transferkit.models import PRETRAINED
from transferkit.options.cluster import ClusterOptions
from transferkit.options.dataset_options import ClassifierOptions
from transferkit.options.declaration import AppliesTo, OnResume, Option, given_flags, option_names
from transferkit.options.shared import (
    BACKBONE_HELP,
    DEFAULT_BACKBONE,
    MODEL,
    MODEL_HELP,
    OUTPUT,
    Data,
    Weights,
    require_one_network,
)
from transferkit.places import Place
from transferkit.tables.feature_table import FeatureFormat


@dataclass(frozen=True)
class ExtractFeaturesOptions(ClusterOptions, ClassifierOptions):
    """Options of `transferkit extract-features`."""

    data: Data
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
    weights: Weights = PRETRAINED
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
            raise OptionError("--resume is for a file of features; leave it out, or --classifier")
        if self.classifier is None and (
            given := given_flags(self, option_names(self, applies_to=AppliesTo.FITTING))
        ):
            raise OptionError(f"{given[0]} needs a --classifier; name one, or leave the option out")
