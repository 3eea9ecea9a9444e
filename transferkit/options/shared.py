"""Options that several commands have, and the words they share; see `options.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transferkit.classifiers import Classifier
from transferkit.data.bad_images import OnBadImage
from transferkit.data.preprocessing import Resize
from transferkit.devices import Cache, Device, Precision
from transferkit.errors import OptionError
from transferkit.models import PRETRAINED
from transferkit.models.feature_extractor import POOLED, Pool
from transferkit.options.declaration import (
    AppliesTo,
    OnResume,
    Option,
    Options,
    Range,
    number_or_auto,
)
from transferkit.training.loss import ClassWeights

DEFAULT_BACKBONE = "resnet18"

DATA_HELP = "Folder of images, one subfolder a class; or train/, val/ and test/ of such folders."
BACKBONE_HELP = (
    "timm name with or without a weights tag, torchvision:NAME, hf-hub:OWNER/NAME, "
    "local-dir:PATH, or, with no download, nano or edges8; see: transferkit backbones."
)
WEIGHTS_HELP = "pretrained, none (random weights), or a .safetensors or .pth file."
MODEL_HELP = "A run, its model/ folder, or a local-dir: or hf-hub: model."

OUTPUT, MODEL, STRATEGY, FEATURES, EXPLANATION, DATA, TRAINING, COMPUTE, DRAWINGS = (
    "Output", "Model", "Strategy", "Features and classifier", "Explanation", "Data", "Training",
    "Compute", "Drawings",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
    """How a command computes, the same for all."""

    batch_size: Annotated[
        int, Option(panel=COMPUTE, help="Images a batch.", within=Range(1, 65536))
    ] = 32
    device: Annotated[Device, Option(panel=COMPUTE, help="Where to compute.")] = Device.AUTO
    precision: Annotated[
        Precision,
        Option(
            panel=COMPUTE, help="auto is bf16 on a GPU or CPU with instructions for it, else fp32."
        ),
    ] = Precision.AUTO
    workers: Annotated[
        int | None,
        Option(
            panel=COMPUTE,
            help="Threads that decode images; auto is one a core.",
            within=Range(1),
            parse=number_or_auto,
            metavar="N|auto",
            show_default="auto",
            on_resume=OnResume.FREE,
        ),
    ] = None
    allow_truncated: Annotated[
        bool,
        Option(
            panel=DATA,
            flags=("--allow-truncated",),
            help="Use JPEGs whose end is missing; what is missing is grey.",
        ),
    ] = False


@dataclass(frozen=True)
class InputOptions(ComputeOptions):
    """Pictures, and the model that says what is in them."""

    inputs: Annotated[
        tuple[str, ...],
        Option(
            argument=True, help="Files, folders, globs, or - for a list of paths on standard input."
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
            help="Instead of --model: a pretrained network and its own categories (ImageNet).",
            show_default=False,
        ),
    ] = None
    weights: Annotated[str, Option(panel=MODEL, help=f"With --backbone: {WEIGHTS_HELP}")] = (
        PRETRAINED
    )

    def __post_init__(self) -> None:
        if isinstance(self.inputs, str | Path):
            object.__setattr__(self, "inputs", (self.inputs,))
        object.__setattr__(self, "inputs", tuple(str(given) for given in self.inputs))
        super().__post_init__()
        if (self.model is None) == (self.backbone is None):
            raise OptionError(
                "--model, --backbone: expected one of them; -m RUN for a model of yours, "
                "-b NAME for a pretrained network's own categories"
            )
        if self.model and self.weights != PRETRAINED:
            raise OptionError("--weights is for --backbone; --model brings its own")


@dataclass(frozen=True, kw_only=True)
class FolderOptions(ComputeOptions):
    """How a folder of images is read."""

    on_bad_image: Annotated[
        OnBadImage,
        Option(
            panel=DATA,
            help="skip leaves images out that cannot be read, and names them; fail ends the command.",
        ),
    ] = OnBadImage.SKIP


@dataclass(frozen=True, kw_only=True)
class PictureOptions(FolderOptions):
    """What a picture goes through before the backbone, and the seed of what is random."""

    image_size: Annotated[
        int | None,
        Option(
            panel=DATA,
            help="Side of the pictures in pixels.",
            within=Range(1),
            show_default="the backbone's",
        ),
    ] = None
    resize: Annotated[
        Resize | None,
        Option(
            panel=DATA,
            help="How pictures of any shape fit: crop the middle out, pad, or squash.",
            show_default="the backbone's",
        ),
    ] = None
    seed: Annotated[
        int, Option(panel=TRAINING, help="Same seed, same run.", within=Range(0, 2**32 - 1))
    ] = 0


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(PictureOptions):
    """Which features are taken."""

    layer: Annotated[
        tuple[str, ...],
        Option(
            panel=FEATURES,
            flags=("--layer",),
            help="Where features are taken: pooled (the last map), prelogits (what enters the head), a "
            "stage or a module; several are put side by side. See: transferkit inspect NAME.",
            metavar="NAME",
            show_default=POOLED,
            applies_to=AppliesTo.FEATURES,
        ),
    ] = ()
    pool: Annotated[
        Pool | None,
        Option(
            panel=FEATURES,
            help="How a map becomes a vector; auto is the class token where there is one, else avg.",
            show_default=Pool.AUTO,
            applies_to=AppliesTo.FEATURES,
        ),
    ] = None
    patches: Annotated[
        int | None,
        Option(
            panel=FEATURES,
            help="For -b edges8: edges are summed over a grid of so many by so many patches.",
            within=Range(1, 64),
            show_default="4",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class HeldOutOptions(PictureOptions):
    """What is learnt from which images, what is held out, and what of it is kept."""

    cache: Annotated[
        Cache,
        Option(
            panel=COMPUTE,
            help="Where what frozen layers give is kept, to be computed once: disk serves later runs "
            "too, memory this one; auto is disk where it fits. See: transferkit cache.",
            applies_to=AppliesTo.FITTING,
            on_resume=OnResume.FREE,
        ),
    ] = Cache.AUTO
    cache_limit: Annotated[
        float,
        Option(
            panel=COMPUTE,
            help="Gigabytes that the cache may take on disk; the least recently used goes first.",
            within=Range(0),
            metavar="GB",
            applies_to=AppliesTo.FITTING,
            on_resume=OnResume.FREE,
        ),
    ] = 10.0
    val_fraction: Annotated[
        float,
        Option(
            panel=DATA,
            help="Share of each class that goes to validation.",
            within=Range(0, 1, open_low=True, open_high=True),
            applies_to=AppliesTo.FITTING,
        ),
    ] = 0.2
    val: Annotated[
        Path | None,
        Option(
            panel=DATA,
            help="Validation folder, one subfolder a class, instead of --val-fraction.",
            metavar="DIR",
            show_default=False,
            applies_to=AppliesTo.FITTING,
        ),
    ] = None
    split: Annotated[
        Path | None,
        Option(
            panel=DATA,
            help="The split.csv of a run, or its folder, instead of --val-fraction: its images stay on "
            "their side, new ones are divided beside them.",
            metavar="FILE|RUN",
            show_default=False,
            applies_to=AppliesTo.FITTING,
        ),
    ] = None
    class_weights: Annotated[
        ClassWeights,
        Option(
            panel=TRAINING,
            help="balanced lets rare classes count as much as frequent ones.",
            applies_to=AppliesTo.FITTING,
        ),
    ] = ClassWeights.NONE


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(FeatureOptions, HeldOutOptions):
    """What is fitted on features, and on which images."""

    classifier: Annotated[
        Classifier | None,
        Option(
            panel=FEATURES,
            help="What is fitted on the features, its settings chosen by cross-validation.",
            show_default=False,
            applies_to=AppliesTo.FEATURES,
        ),
    ] = None
    report: Annotated[
        bool,
        Option(
            panel=OUTPUT,
            flags=("--report/--no-report",),
            help="Draw the run's page, report.html, at its end.",
            applies_to=AppliesTo.FITTING,
            on_resume=OnResume.FREE,
        ),
    ] = True
