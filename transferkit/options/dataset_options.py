"""Options of a dataset: how it is read and divided, and what is computed of its images."""

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from transferkit.classifiers import Classifier
from transferkit.data.bad_images import OnBadImage
from transferkit.data.label_table import NO_COLUMN, TableReading
from transferkit.data.layout import Layout
from transferkit.data.preprocessing import Resize
from transferkit.data.table_file import TABLE_SUFFIXES, is_table
from transferkit.devices import Cache
from transferkit.engines import Engine
from transferkit.errors import OptionError
from transferkit.models.feature_extractor import POOLED, Pool
from transferkit.options.declaration import (
    AppliesTo,
    OnResume,
    Option,
    Range,
    declared_options,
    given_flags,
)
from transferkit.options.parsers import group_pattern, size_in_pixels
from transferkit.options.shared import (
    COMPUTE,
    DATA,
    FEATURES,
    IMAGE_SIZE_HELP,
    OUTPUT,
    TRAINING,
    ComputeOptions,
    EngineOption,
)
from transferkit.places import Place
from transferkit.training.loss import ClassWeights


@dataclass(frozen=True, kw_only=True)
class FolderOptions(ComputeOptions):
    """How a folder or a table of images is read, and what computes its images."""

    engine: EngineOption = Engine.AUTO
    layout: Annotated[
        Layout,
        Option(
            panel=DATA,
            help="What the folders are: classes makes each a class, split takes train/, val/ and "
            "test/ as parts of a split; auto decides by their names and contents.",
        ),
    ] = Layout.AUTO
    path_column: Annotated[
        str | None,
        Option(
            panel=DATA,
            of_tables=True,
            help="Column of a table that holds the paths of the images.",
            metavar="NAME",
            show_default="path, or another usual name such as filename",
        ),
    ] = None
    label_column: Annotated[
        str | None,
        Option(
            panel=DATA,
            of_tables=True,
            help="Column of a table that holds the classes.",
            metavar="NAME",
            show_default="label, or another usual name such as class",
        ),
    ] = None
    split_column: Annotated[
        str | None,
        Option(
            panel=DATA,
            of_tables=True,
            help="Column of a table that holds train, val or test; none reads no parts.",
            metavar="NAME|none",
            show_default="split, if there is one",
        ),
    ] = None
    root: Annotated[
        Place | None,
        Option(
            panel=DATA,
            of_tables=True,
            help="Folder that the paths of a table are relative to.",
            metavar="DIR",
            show_default="the table's folder",
        ),
    ] = None
    decisions: Annotated[
        Place | None,
        Option(
            panel=DATA,
            help="CSV or Parquet table of decisions about images: the columns path, action (keep, "
            "relabel or exclude), label, and optionally sha256. DATA itself is not changed.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None
    on_bad_image: Annotated[
        OnBadImage,
        Option(
            panel=DATA,
            help="What to do with unreadable images: skip leaves them out and names them, fail "
            "stops the command.",
        ),
    ] = OnBadImage.SKIP

    def __post_init__(self) -> None:
        super().__post_init__()
        # Commands with these options declare DATA themselves, as their first argument.
        if data := getattr(self, "data", None):
            self._check_table(data)

    def _check_table(self, data: Place) -> None:
        """Refuse options of tables without a table, and those of folders with one."""
        if is_table(data):
            if given := given_flags(self, ("layout",)):
                raise OptionError(f"{given[0]} is for folders, {data} is a table; leave it out")
            return
        of_tables = [d.name for d in declared_options(self) if d.option.of_tables]
        if given := given_flags(self, of_tables):
            raise OptionError(
                f"{given[0]} is for a table, {data} is none; leave it out, or name a file that "
                f"ends in {', '.join(TABLE_SUFFIXES)}"
            )

    @property
    def dataset_words(self) -> str:
        """DATA and the options that say how it is read, as a command line has them."""
        declared = declared_options(self)
        names = ["layout", *(entry.name for entry in declared if entry.option.of_tables)]
        given = [
            word
            for entry in declared
            if entry.name in names and getattr(self, entry.name) != entry.default
            for word in (entry.flag, str(getattr(self, entry.name)))
        ]
        return shlex.join([str(getattr(self, "data", "DATA")), *given])

    @property
    def table_reading(self) -> TableReading:
        """How a table is read where groups do not matter."""
        return TableReading(self.path_column, self.label_column, self.split_column, root=self.root)


@dataclass(frozen=True, kw_only=True)
class ImageOptions(FolderOptions):
    """How images are prepared for the backbone, and the seed."""

    image_size: Annotated[
        int | tuple[int, int] | None,
        Option(
            panel=DATA,
            help=IMAGE_SIZE_HELP,
            within=Range(1, 65536),
            parse=size_in_pixels,
            metavar="N|HxW",
            show_default="the backbone's",
            chosen_by_budget=True,
        ),
    ] = None
    resize: Annotated[
        Resize | None,
        Option(
            panel=DATA,
            help="How images of any shape are fitted: crop the centre, pad, or squash.",
            show_default="the backbone's",
        ),
    ] = None
    seed: Annotated[
        int,
        Option(
            panel=TRAINING,
            help="Seed of everything random; the same seed gives the same run.",
            within=Range(0, 2**32 - 1),
        ),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(ImageOptions):
    """Where features are taken, and how they are pooled."""

    layer: Annotated[
        tuple[str, ...],
        Option(
            panel=FEATURES,
            flags=("--layer",),
            help="Where features are taken: pooled (the last feature map), prelogits (the input "
            "of the head), a stage or a module. Repeat to concatenate several. See: "
            "transferkit inspect NAME.",
            metavar="NAME",
            show_default=POOLED,
            applies_to=AppliesTo.FEATURES,
            chosen_by_budget=True,
        ),
    ] = ()
    pool: Annotated[
        Pool | None,
        Option(
            panel=FEATURES,
            help="How a feature map becomes a vector; auto takes the class token where there is "
            "one, else the average.",
            show_default=Pool.AUTO,
            applies_to=AppliesTo.FEATURES,
            chosen_by_budget=True,
        ),
    ] = None
    patches: Annotated[
        int | None,
        Option(
            panel=FEATURES,
            help="For -b edges8: sum edges over a grid of this many by this many patches.",
            within=Range(1, 64),
            show_default="4",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TogetherOptions(ImageOptions):
    """What is cached, and which images belong together."""

    cache: Annotated[
        Cache,
        Option(
            panel=COMPUTE,
            help="Where the output of frozen layers is kept so that it is computed once: disk "
            "also serves later runs, memory only this one; auto is disk where it fits. See: "
            "transferkit cache.",
            applies_to=AppliesTo.FITTING,
            on_resume=OnResume.FREE,
        ),
    ] = Cache.AUTO
    cache_limit: Annotated[
        float,
        Option(
            panel=COMPUTE,
            help="Gigabytes that the cache may take on disk; the least recently used entries are "
            "removed first.",
            within=Range(0),
            metavar="GB",
            applies_to=AppliesTo.FITTING,
            on_resume=OnResume.FREE,
        ),
    ] = 10.0
    group_by: Annotated[
        re.Pattern[str] | None,
        Option(
            panel=DATA,
            help="Regular expression whose parentheses name an image's group in its path below "
            r"DATA, as in 'patient(\d+)'. A group stays on one side of every split.",
            parse=group_pattern,
            metavar="REGEX",
            show_default=False,
            applies_to=AppliesTo.FITTING,
        ),
    ] = None
    groups: Annotated[
        Path | None,
        Option(
            panel=DATA,
            help="CSV or Parquet table with the columns path and group, instead of --group-by.",
            metavar="FILE",
            show_default=False,
            applies_to=AppliesTo.FITTING,
        ),
    ] = None
    group_column: Annotated[
        str | None,
        Option(
            panel=DATA,
            of_tables=True,
            help="Column of a table that names an image's group; none reads no groups.",
            metavar="NAME|none",
            show_default="group, if there is one and no --group-by or --groups",
            applies_to=AppliesTo.FITTING,
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        of_groups = given_flags(self, ("group_by", "groups", "group_column"))
        if len(of_groups) > 1:
            raise OptionError(f"{' and '.join(of_groups)} both name the groups; leave one out")

    @property
    def grouped_reading(self) -> TableReading:
        """How a table is read where groups matter; the table's own count if no others are named."""
        has_others = self.group_by is not None or self.groups is not None
        return replace(self.table_reading, group=NO_COLUMN if has_others else self.group_column)


@dataclass(frozen=True, kw_only=True)
class HeldOutOptions(TogetherOptions):
    """Which images are trained on, and which are held out."""

    val_fraction: Annotated[
        float,
        Option(
            panel=DATA,
            help="Share of each class used for validation.",
            within=Range(0, 1, open_low=True, open_high=True),
            applies_to=AppliesTo.FITTING,
        ),
    ] = 0.2
    val: Annotated[
        Place | None,
        Option(
            panel=DATA,
            help="Validation folder, one subfolder per class, or a table like DATA, instead of "
            "--val-fraction.",
            metavar="DIR",
            show_default=False,
            applies_to=AppliesTo.FITTING,
        ),
    ] = None
    split: Annotated[
        Path | None,
        Option(
            panel=DATA,
            help="The split.csv of a run, or the run's folder, instead of --val-fraction. Its "
            "images keep their split; new ones are divided between training and validation.",
            metavar="FILE|RUN",
            show_default=False,
            applies_to=AppliesTo.FITTING,
        ),
    ] = None
    class_weights: Annotated[
        ClassWeights,
        Option(
            panel=TRAINING,
            help="balanced gives rare classes the same total weight as frequent ones.",
            applies_to=AppliesTo.FITTING,
        ),
    ] = ClassWeights.NONE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val and self.split:
            raise OptionError(
                "--split already says which images are for validation; leave out --val"
            )


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(FeatureOptions, HeldOutOptions):
    """What is fitted on features."""

    classifier: Annotated[
        Classifier | None,
        Option(
            panel=FEATURES,
            help="Classifier to fit on the features; cross-validation chooses its settings.",
            show_default=False,
            applies_to=AppliesTo.FEATURES,
            chosen_by_budget=True,
        ),
    ] = None
    report: Annotated[
        bool,
        Option(
            panel=OUTPUT,
            flags=("--report/--no-report",),
            help="Draw report.html at the end of the run.",
            applies_to=AppliesTo.FITTING,
            on_resume=OnResume.FREE,
        ),
    ] = True
