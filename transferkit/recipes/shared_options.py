"""Options that several commands have, and the words they share; see `options.py`."""

from dataclasses import dataclass
from pathlib import Path

from transferkit.classifiers import Classifier
from transferkit.data.bad_images import OnBadImage
from transferkit.data.preprocessing import Resize
from transferkit.devices import Cache, Device, Precision
from transferkit.errors import OptionError
from transferkit.models import PRETRAINED
from transferkit.models.features import POOLED, Pool
from transferkit.recipes.declaration import (
    Options,
    Range,
    number_or_auto,
    option,
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

    batch_size: int = option(32, panel=COMPUTE, help="Images a batch.", within=Range(1, 65536))
    device: Device = option(Device.AUTO, panel=COMPUTE, help="Where to compute.")
    precision: Precision = option(
        Precision.AUTO,
        panel=COMPUTE,
        help="auto is bf16 on a GPU or CPU with instructions for it, else fp32.",
    )
    workers: int | None = option(
        None,
        panel=COMPUTE,
        help="Threads that decode images; auto is one a core.",
        within=Range(1),
        parse=number_or_auto,
        metavar="N|auto",
        show_default="auto",
    )
    allow_truncated: bool = option(
        False,
        panel=DATA,
        flags=("--allow-truncated",),
        help="Use JPEGs whose end is missing; what is missing is grey.",
    )


@dataclass(frozen=True)
class InputOptions(ComputeOptions):
    """Pictures, and the model that says what is in them."""

    inputs: tuple[str, ...] = option(
        argument=True,
        help="Files, folders, globs, or - for a list of paths on standard input.",
    )
    model: str | None = option(
        None,
        panel=MODEL,
        flags=("-m", "--model"),
        help=MODEL_HELP,
        metavar="RUN",
        show_default=False,
    )
    backbone: str | None = option(
        None,
        panel=MODEL,
        flags=("-b", "--backbone"),
        help="Instead of --model: a pretrained network and its own categories (ImageNet).",
        show_default=False,
    )
    weights: str = option(PRETRAINED, panel=MODEL, help=f"With --backbone: {WEIGHTS_HELP}")

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

    on_bad_image: OnBadImage = option(
        OnBadImage.SKIP,
        panel=DATA,
        help="skip leaves images out that cannot be read, and names them; fail ends the command.",
    )


@dataclass(frozen=True, kw_only=True)
class PictureOptions(FolderOptions):
    """What a picture goes through before the backbone, and the seed of what is random."""

    image_size: int | None = option(
        None,
        panel=DATA,
        help="Side of the pictures in pixels.",
        within=Range(1),
        show_default="the backbone's",
    )
    resize: Resize | None = option(
        None,
        panel=DATA,
        help="How pictures of any shape fit: crop the middle out, pad, or squash.",
        show_default="the backbone's",
    )
    seed: int = option(0, panel=TRAINING, help="Same seed, same run.", within=Range(0, 2**32 - 1))


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(PictureOptions):
    """Which features are taken."""

    layer: tuple[str, ...] = option(
        (),
        panel=FEATURES,
        flags=("--layer",),
        help="Where features are taken: pooled (the last map), prelogits (what enters the head), a "
        "stage or a module; several are put side by side. See: transferkit inspect NAME.",
        metavar="NAME",
        show_default=POOLED,
    )
    pool: Pool | None = option(
        None,
        panel=FEATURES,
        help="How a map becomes a vector; auto is the class token where there is one, else avg.",
        show_default=Pool.AUTO,
    )
    patches: int | None = option(
        None,
        panel=FEATURES,
        help="For -b edges8: edges are summed over a grid of so many by so many patches.",
        within=Range(1, 64),
        show_default="4",
    )


@dataclass(frozen=True, kw_only=True)
class HeldOutOptions(PictureOptions):
    """What is learnt from which images, what is held out, and what of it is kept."""

    cache: Cache = option(
        Cache.AUTO,
        panel=COMPUTE,
        help="Where what frozen layers give is kept, to be computed once: disk serves later runs "
        "too, memory this one; auto is disk where it fits. See: transferkit cache.",
    )
    cache_limit: float = option(
        10.0,
        panel=COMPUTE,
        help="Gigabytes that the cache may take on disk; the least recently used goes first.",
        within=Range(0),
        metavar="GB",
    )
    val_fraction: float = option(
        0.2,
        panel=DATA,
        help="Share of each class that goes to validation.",
        within=Range(0, 1, open_low=True, open_high=True),
    )
    val: Path | None = option(
        None,
        panel=DATA,
        help="Validation folder, one subfolder a class, instead of --val-fraction.",
        metavar="DIR",
        show_default=False,
    )
    split: Path | None = option(
        None,
        panel=DATA,
        help="The split.csv of a run, or its folder, instead of --val-fraction: its images stay on "
        "their side, new ones are divided beside them.",
        metavar="FILE|RUN",
        show_default=False,
    )
    class_weights: ClassWeights = option(
        ClassWeights.NONE,
        panel=TRAINING,
        help="balanced lets rare classes count as much as frequent ones.",
    )


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(FeatureOptions, HeldOutOptions):
    """What is fitted on features, and on which images."""

    classifier: Classifier | None = option(
        None,
        panel=FEATURES,
        help="What is fitted on the features, its settings chosen by cross-validation.",
        show_default=False,
    )
    report: bool = option(
        True,
        panel=OUTPUT,
        flags=("--report/--no-report",),
        help="Draw the run's page, report.html, at its end.",
    )
