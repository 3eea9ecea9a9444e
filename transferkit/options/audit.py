"""The options of `transferkit audit`."""

from dataclasses import dataclass
from typing import Annotated

from transferkit.errors import OptionError
from transferkit.models import PRETRAINED
from transferkit.models.feature_extractor import Pool
from transferkit.options.dataset_options import FeatureOptions, TogetherOptions
from transferkit.options.declaration import OnResume, Option
from transferkit.options.shared import (
    DEFAULT_BACKBONE,
    OUTPUT,
    Backbone,
    Data,
    Weights,
)
from transferkit.places import Place


@dataclass(frozen=True)
class AuditOptions(FeatureOptions, TogetherOptions):
    """Options of `transferkit audit`."""

    data: Data
    output: Annotated[
        Place | None,
        Option(
            panel=OUTPUT,
            flags=("-o", "--output"),
            help="Folder for audit.csv and audit.html.",
            metavar="FOLDER",
            show_default="runs/<data>-audit",
            on_resume=OnResume.CALL,
        ),
    ] = None
    overwrite: Annotated[
        bool,
        Option(
            panel=OUTPUT,
            flags=("--overwrite",),
            help="Replace an existing audit.",
            on_resume=OnResume.CALL,
        ),
    ] = False
    backbone: Backbone = DEFAULT_BACKBONE
    weights: Weights = PRETRAINED

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool is Pool.NONE:
            raise OptionError(
                "--pool none: gives feature maps, expected vectors; use --pool flatten"
            )

    @property
    def resume(self) -> bool:
        """An audit starts anew: what takes long comes from the cache."""
        return False
