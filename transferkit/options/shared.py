"""Options that several commands share, and the texts and panel names they have in common."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from transferkit.classifiers import Classifier
from transferkit.data.bad_images import OnBadImage
from transferkit.data.label_table import NO_COLUMN, TableReading
from transferkit.data.layout import Layout
from transferkit.data.preprocessing import Resize
from transferkit.data.table_file import TABLE_SUFFIXES, is_table
from transferkit.devices import USUAL_BATCH_SIZE, Cache, Device, Precision
from transferkit.engines import Engine
from transferkit.errors import OptionError
from transferkit.models import PRETRAINED
from transferkit.models.feature_extractor import POOLED, Pool
from transferkit.options.declaration import (
    AppliesTo,
    OnResume,
    Option,
    Options,
    Range,
    count_or_auto,
    declared_options,
    given_flags,
    group_pattern,
    number_or_auto,
    size_in_pixels,
)
from transferkit.places import Place
from transferkit.training.loss import ClassWeights

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
"""EfficientNet-Lite0, whose ImageNet weights are installed with transferkit."""

DATA_HELP = (
    "Folder of images, one subfolder per class; or train/, val/ and test/ folders of such "
    "subfolders; or tar archives; or a .csv, .tsv or .parquet table of paths and labels. A path, "
    "or an address such as s3://bucket/photos."
)
BACKBONE_HELP = (
    "timm name with or without a weights tag, torchvision:NAME, hf-hub:OWNER/NAME, "
    "local-dir:PATH, or edges8. See: transferkit backbones."
)
WEIGHTS_HELP = "pretrained, none (random weights), or the path of a .safetensors or .pth file."
IMAGE_SIZE_HELP = "Size of the network's input in pixels: a side, or height x width as in 128x256."
MODEL_HELP = "A run, its model/ folder, or a local-dir: or hf-hub: model."

EXPORTED_HELP = (
    "A run, its model/ folder, an exported .onnx file, or a local-dir: or hf-hub: model."
)

OUTPUT, SORTING, MODEL, STRATEGY, FEATURES, EXPLANATION, DATA, TRAINING, COMPUTE, CLUSTER = (
    "Output", "Sorting", "Model", "Strategy", "Features and classifier", "Explanation", "Data",
    "Training", "Compute", "Cluster",
)  # fmt: skip
DRAWINGS = "Drawings"


Overwrite = Annotated[
    bool,
    Option(
        panel=OUTPUT,
        flags=("--overwrite",),
        help="Replace existing files.",
        on_resume=OnResume.CALL,
    ),
]


Tta = Annotated[
    bool,
    Option(
        panel=OUTPUT,
        flags=("--tta",),
        help="Average over each image and its mirror image (test-time augmentation), in twice the "
        "time.",
    ),
]


EngineOption = Annotated[
    Engine,
    Option(
        panel=COMPUTE,
        flags=("--engine",),
        help="What computes layers that are not trained; auto is OpenVINO on the CPU for many "
        "images, else torch.",
    ),
]


Workers = Annotated[
    int | None,
    Option(
        panel=COMPUTE,
        help="Threads that read and decode images; auto is one per core, at most 16, and 16 for "
        "images in a store.",
        within=Range(1),
        parse=number_or_auto,
        metavar="N|auto",
        show_default="auto",
        on_resume=OnResume.FREE,
    ),
]


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
    """How every command computes."""

    batch_size: Annotated[
        int | Literal["auto"],
        Option(
            panel=COMPUTE,
            help="Images per batch; auto is a power of two from 32 to 1024, by the GPU's free "
            "memory, for training and passes, and 32 on the CPU.",
            within=Range(1, 65536),
            parse=count_or_auto,
            metavar="N|auto",
        ),
    ] = USUAL_BATCH_SIZE
    device: Annotated[Device, Option(panel=COMPUTE, help="Device to compute on.")] = Device.AUTO
    precision: Annotated[
        Precision,
        Option(
            panel=COMPUTE,
            help="Number format; auto is bf16 where the GPU or CPU has instructions for it, else "
            "fp32.",
        ),
    ] = Precision.AUTO
    workers: Workers = None
    allow_truncated: Annotated[
        bool,
        Option(
            panel=DATA,
            flags=("--allow-truncated",),
            help="Accept JPEGs whose end is missing; the missing part is grey.",
        ),
    ] = False


def require_one_network(model: str | None, backbone: str | None, weights: str) -> None:
    """Require that a model is named alone.

    Raises:
        OptionError: When a backbone or its weights are named beside a model.
    """
    if model and (backbone or weights != PRETRAINED):
        raise OptionError(
            "--model has its own backbone and weights; leave out --backbone and --weights"
        )


def _as_inputs(given: Any) -> tuple[Any, ...]:
    """Return paths as text, and images that Python callers give as they are.

    Raises:
        ImageTypeError: When there is something else among them.
    """
    if isinstance(given, list | tuple) and all(isinstance(item, str) for item in given):
        return tuple(given)
    # Imported here: the command line needs no numpy to read paths.
    from transferkit.data.image_inputs import as_images

    return tuple(str(one) if isinstance(one, Path) else one for one in as_images(given))


@dataclass(frozen=True)
class InputOptions(ComputeOptions):
    """Images, and the model that classifies them."""

    inputs: Annotated[
        Any,
        Option(
            argument=True,
            convert=_as_inputs,
            help="Image files, folders, glob patterns, or - for a list of paths on standard input.",
            on_resume=OnResume.CALL,
        ),
    ]
    model: Annotated[
        str | None,
        Option(
            panel=MODEL, flags=("-m", "--model"), help=MODEL_HELP, metavar="RUN", show_default=False
        ),
    ] = None
    backbone: Annotated[
        str | None,
        Option(
            panel=MODEL,
            flags=("-b", "--backbone"),
            help="Without --model: a pretrained network with its own categories (ImageNet).",
            show_default=DEFAULT_BACKBONE,
        ),
    ] = None
    weights: Annotated[str, Option(panel=MODEL, help=f"With --backbone: {WEIGHTS_HELP}")] = (
        PRETRAINED
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_network(self.model, self.backbone, self.weights)


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
