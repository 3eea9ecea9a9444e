"""Every option of every command: its default, its range, its help; said once.

The command line is generated from these classes, the library takes them as they are. Needs no
torch to be imported.
"""

from dataclasses import dataclass
from pathlib import Path

from transferkit.classifiers import Classifier
from transferkit.data.augment import Augment
from transferkit.data.preprocessing import Resize
from transferkit.devices import Device, Precision
from transferkit.errors import OptionError
from transferkit.models import NO_WEIGHTS, PRETRAINED
from transferkit.models.features import POOLED, Pool
from transferkit.models.freezing import BatchNorm, check_unfreeze
from transferkit.models.phases import Strategy
from transferkit.recipes.declaration import (
    Options,
    Range,
    changed,
    number_or_auto,
    option,
    rate_spread_or_auto,
)
from transferkit.tables.predictions import PredictionFormat
from transferkit.training.loss import ClassWeights
from transferkit.training.schedule import Scheduler

DEFAULT_BACKBONE = "resnet18"

_DATA_HELP = "Folder of images, one subfolder a class; or train/, val/ and test/ of such folders."
_BACKBONE_HELP = (
    "timm name with or without a weights tag, torchvision:NAME, hf-hub:OWNER/NAME, "
    "local-dir:PATH, or edges8, which needs no download; see: transferkit backbones."
)
_WEIGHTS_HELP = "pretrained, none (random weights), or a .safetensors or .pth file."
_MODEL_HELP = "A run, its model/ folder, or a local-dir: or hf-hub: model."

_OUTPUT, _MODEL, _STRATEGY, _FEATURES, _DATA, _TRAINING, _COMPUTE = (
    "Output", "Model", "Strategy", "Features and classifier", "Data", "Training", "Compute",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
    """How a command computes, the same for all."""

    batch_size: int = option(32, panel=_COMPUTE, help="Images a batch.", within=Range(1, 65536))
    device: Device = option(Device.AUTO, panel=_COMPUTE, help="Where to compute.")
    precision: Precision = option(
        Precision.AUTO, panel=_COMPUTE, help="auto is bf16 on a GPU that has it, else fp32."
    )
    workers: int | None = option(
        None,
        panel=_COMPUTE,
        help="Threads that decode images; auto is one a core.",
        within=Range(1),
        parse=number_or_auto,
        metavar="N|auto",
        show_default="auto",
    )


@dataclass(frozen=True, kw_only=True)
class PictureOptions(ComputeOptions):
    """What a picture goes through before the backbone, where its own record is not wanted."""

    image_size: int | None = option(
        None,
        panel=_DATA,
        help="Side of the pictures in pixels.",
        within=Range(1),
        show_default="the backbone's",
    )
    resize: Resize | None = option(
        None,
        panel=_DATA,
        help="How pictures of any shape fit: crop the middle out, pad, or squash.",
        show_default="the backbone's",
    )


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(PictureOptions):
    """Which features are taken."""

    layer: tuple[str, ...] = option(
        (),
        panel=_FEATURES,
        flags=("--layer",),
        help="Where features are taken: pooled (the last map), prelogits (what enters the head), a "
        "stage or a module; several are put side by side. See: transferkit backbones NAME "
        "--layers.",
        metavar="NAME",
        show_default=POOLED,
    )
    pool: Pool | None = option(
        None,
        panel=_FEATURES,
        help="How a map becomes a vector; auto is the class token where there is one, else avg.",
        show_default=Pool.AUTO,
    )
    patches: int | None = option(
        None,
        panel=_FEATURES,
        help="For -b edges8: edges are summed over a grid of so many by so many patches.",
        within=Range(1, 64),
        show_default="4",
    )
    seed: int = option(0, panel=_TRAINING, help="Same seed, same run.", within=Range(0, 2**32 - 1))


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(FeatureOptions):
    """What is fitted on features, and on which images."""

    classifier: Classifier | None = option(
        None,
        panel=_FEATURES,
        help="What is fitted on the features, its settings chosen by cross-validation.",
        show_default=False,
    )
    val_fraction: float = option(
        0.2,
        panel=_DATA,
        help="Share of each class that goes to validation.",
        within=Range(0, 1, open_low=True, open_high=True),
    )
    val: Path | None = option(
        None,
        panel=_DATA,
        help="Validation folder, one subfolder a class, instead of --val-fraction.",
        metavar="DIR",
        show_default=False,
    )
    class_weights: ClassWeights = option(
        ClassWeights.NONE,
        panel=_TRAINING,
        help="balanced lets rare classes count as much as frequent ones.",
    )


@dataclass(frozen=True)
class FinetuneOptions(ClassifierOptions):
    """Options of `transferkit finetune`."""

    data: Path = option(argument=True, help=_DATA_HELP)
    output: Path | None = option(
        None,
        panel=_OUTPUT,
        flags=("-o", "--output"),
        help="Folder of the run.",
        metavar="RUN",
        show_default="runs/<data>-<backbone>-<strategy>",
    )
    overwrite: bool = option(
        False, panel=_OUTPUT, flags=("--overwrite",), help="Replace a run that is there."
    )
    dry_run: bool = option(
        False, panel=_OUTPUT, flags=("--dry-run",), help="Print the plan and stop."
    )
    find_lr: bool = option(
        False,
        panel=_OUTPUT,
        flags=("--find-lr",),
        help="Test a range of learning rates, save and show the curve, suggest one and stop.",
    )
    backbone: str = option(
        DEFAULT_BACKBONE, panel=_MODEL, flags=("-b", "--backbone"), help=_BACKBONE_HELP
    )
    weights: str = option(PRETRAINED, panel=_MODEL, help=_WEIGHTS_HELP)
    strategy: Strategy = option(
        Strategy.PARTIAL,
        panel=_STRATEGY,
        help="partial trains the head or the last stages, full everything, gradual one stage more "
        "at a time; features fits a scikit-learn classifier and leaves the backbone as it is.",
    )
    unfreeze: str = option(
        "head",
        panel=_STRATEGY,
        help="For partial, besides the head: head (nothing), last:N (stages), from:STAGE (and all "
        "after), re:REGEX (parameters it is found in) or all.",
        metavar="SPEC",
    )
    freeze_epochs: int | None = option(
        None,
        panel=_STRATEGY,
        help="Epochs that train the head alone at first; 0 for none.",
        within=Range(0),
        show_default="1 for full and gradual; 0 for partial and with --weights none",
    )
    thaw_every: int | None = option(
        None,
        panel=_STRATEGY,
        help="For gradual: epochs until the next stage thaws; 0 thaws all at once.",
        within=Range(0),
        show_default="1",
    )
    bn: BatchNorm = option(
        BatchNorm.AUTO,
        panel=_STRATEGY,
        help="BatchNorm of trainable stages: eval keeps the pretrained statistics, train uses and "
        "updates them with each batch; auto is eval, and train with --weights none.",
    )
    augment: Augment = option(
        Augment.LIGHT, panel=_DATA, help="How strongly training pictures are varied."
    )
    learning_rate: float | tuple[float, float] | None = option(
        1e-3,
        panel=_TRAINING,
        flags=("--lr",),
        help="Learning rate of the head; A:B spreads them from A for the stem to B for the head; "
        "auto takes what --find-lr suggests.",
        within=Range(0, open_low=True),
        parse=rate_spread_or_auto,
        metavar="X|A:B|auto",
    )
    backbone_learning_rate: float | None = option(
        None,
        panel=_TRAINING,
        flags=("--backbone-lr",),
        help="Learning rate of the last backbone stage.",
        within=Range(0, open_low=True),
        show_default="lr / 10; lr with --weights none",
    )
    layer_decay: float | None = option(
        None,
        panel=_TRAINING,
        help="Factor on the rate per stage towards the stem.",
        within=Range(0, 1, open_low=True),
        show_default="what gives the stem 1/16 of the last stage's rate; 1 with --weights none",
    )
    optimizer: str = option(
        "adamw", panel=_TRAINING, help="timm's name of one: adamw, sgd, lion and 90 more."
    )
    scheduler: Scheduler = option(
        Scheduler.COSINE, panel=_TRAINING, help="How the rates fall after the warm-up."
    )
    epochs: int = option(
        10, panel=_TRAINING, help="Passes over the training images.", within=Range(1)
    )
    patience: int = option(
        5,
        panel=_TRAINING,
        help="Stop after so many epochs without a better one; 0 never does.",
        within=Range(0),
    )
    weight_decay: float = option(
        0.01, panel=_TRAINING, help="On weight matrices only.", within=Range(0)
    )
    label_smoothing: float = option(
        0.1, panel=_TRAINING, help="Of the training loss.", within=Range(0, 1, open_high=True)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unfreeze(self.unfreeze)
        self._check_strategy()
        self._check_phases()
        self._check_rates()
        if self.find_lr and self.dry_run:
            raise OptionError("--find-lr trains for a while, --dry-run does not; choose one")

    def _check_strategy(self) -> None:
        """Refuse what would do nothing: training options for features, and the other way round."""
        if self.strategy is Strategy.FEATURES:
            if given := changed(self, TRAINED_BY_GRADIENT):
                raise OptionError(
                    f"{given[0]}: --strategy features trains no network; leave the option out, or "
                    "choose another strategy"
                )
            if self.classifier is None:
                object.__setattr__(self, "classifier", Classifier.SVM)
        elif given := changed(self, ("classifier", "layer", "pool")):
            raise OptionError(f"{given[0]} is for --strategy features, not for {self.strategy}")

    def _check_phases(self) -> None:
        partial = self.strategy is Strategy.PARTIAL
        if not partial and self.unfreeze != "head":
            raise OptionError(
                f"--unfreeze {self.unfreeze} is for --strategy partial; {self.strategy} trains "
                "every stage"
            )
        if self.thaw_every is not None and self.strategy is not Strategy.GRADUAL:
            raise OptionError(f"--thaw-every is for --strategy gradual, not for {self.strategy}")
        if partial and self.unfreeze == "head":
            of_the_backbone = {
                "--freeze-epochs": bool(self.freeze_epochs),
                "--bn": self.bn is not BatchNorm.AUTO,
                "--backbone-lr": self.backbone_learning_rate is not None,
                "--layer-decay": self.layer_decay is not None,
                "--lr A:B": isinstance(self.learning_rate, tuple),
            }
            if given := [flag for flag, is_given in of_the_backbone.items() if is_given]:
                raise OptionError(
                    f"{given[0]}: --unfreeze head leaves the backbone as it is; leave the option "
                    "out, or train more with --unfreeze or --strategy"
                )
        if self.freeze_epochs and self.freeze_epochs >= self.epochs:
            raise OptionError(
                f"--freeze-epochs: got {self.freeze_epochs} of {self.epochs} epochs, which leaves "
                "none for more than the head; expected less than --epochs"
            )

    def _check_rates(self) -> None:
        rate = self.learning_rate
        if isinstance(rate, tuple):
            if len(rate) != 2 or rate[0] > rate[1]:
                raise OptionError(
                    f"--lr: got {':'.join(f'{r:g}' for r in rate)}, expected the stem's rate and "
                    "then the head's, which is not the smaller one"
                )
            if self.backbone_learning_rate is not None or self.layer_decay is not None:
                raise OptionError(
                    "--lr A:B gives every stage its rate; leave out --backbone-lr and --layer-decay"
                )
        ratios_given = isinstance(rate, tuple) or self.backbone_learning_rate is not None
        if self.tests_rates and ratios_given:
            raise OptionError(
                "a range test scales all rates together, the backbone's by default a tenth of the "
                "head's; leave out --backbone-lr and --lr A:B"
            )

    @property
    def from_scratch(self) -> bool:
        """Whether the backbone's weights are random, so that there is nothing to spare."""
        return self.weights == NO_WEIGHTS

    @property
    def tests_rates(self) -> bool:
        """Whether learning rates are tested before training."""
        return self.find_lr or self.learning_rate is None

    @property
    def epochs_per_thaw(self) -> int:
        """How many epochs a gradual run gives each stage before the next one thaws."""
        return 1 if self.thaw_every is None else self.thaw_every

    @property
    def head_epochs(self) -> int:
        """How many epochs train the head alone at first."""
        if self.freeze_epochs is not None:
            return self.freeze_epochs
        sparing = self.strategy in (Strategy.FULL, Strategy.GRADUAL) and not self.from_scratch
        return 1 if sparing and self.epochs > 1 else 0


TRAINED_BY_GRADIENT = (
    *("unfreeze", "freeze_epochs", "thaw_every", "bn", "augment", "find_lr", "learning_rate"),
    *("backbone_learning_rate", "layer_decay", "optimizer", "scheduler", "epochs", "patience"),
    *("weight_decay", "label_smoothing"),
)
"""Fields that only mean something where a network is trained."""


@dataclass(frozen=True)
class ExtractFeaturesOptions(ClassifierOptions):
    """Options of `transferkit extract-features`."""

    data: Path = option(argument=True, help=_DATA_HELP)
    output: Path = option(
        panel=_OUTPUT,
        flags=("-o", "--output"),
        metavar="FILE|RUN",
        help="File to write: .npz, .parquet, .csv or .safetensors; with --classifier the folder of "
        "a run.",
    )
    overwrite: bool = option(
        False, panel=_OUTPUT, flags=("--overwrite",), help="Replace what is there."
    )
    resume: bool = option(
        False, panel=_OUTPUT, flags=("--resume",), help="Go on with an interrupted extraction."
    )
    backbone: str | None = option(
        None,
        panel=_MODEL,
        flags=("-b", "--backbone"),
        help=_BACKBONE_HELP,
        show_default=DEFAULT_BACKBONE,
    )
    weights: str = option(PRETRAINED, panel=_MODEL, help=_WEIGHTS_HELP)
    model: str | None = option(
        None,
        panel=_MODEL,
        flags=("-m", "--model"),
        help=f"Instead of --backbone: {_MODEL_HELP}",
        metavar="RUN",
        show_default=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model and (self.backbone or self.weights != PRETRAINED):
            raise OptionError("--model brings its backbone and weights; leave out --backbone and "
                              "--weights")  # fmt: skip
        if self.classifier and self.resume:
            raise OptionError("--resume goes on with a file of features; leave out --classifier")
        if self.classifier is None and (
            given := changed(self, ("val_fraction", "val", "class_weights"))
        ):
            raise OptionError(f"{given[0]} is for a --classifier; name one, or leave it out")


@dataclass(frozen=True)
class PredictOptions(ComputeOptions):
    """Options of `transferkit predict`."""

    inputs: tuple[str, ...] = option(
        argument=True,
        help="Files, folders, globs, or - for a list of paths on standard input.",
    )
    model: str | None = option(
        None,
        panel=_MODEL,
        flags=("-m", "--model"),
        help=_MODEL_HELP,
        metavar="RUN",
        show_default=False,
    )
    backbone: str | None = option(
        None,
        panel=_MODEL,
        flags=("-b", "--backbone"),
        help="Instead of --model: a pretrained network and its own categories (ImageNet).",
        show_default=False,
    )
    weights: str = option(PRETRAINED, panel=_MODEL, help=f"With --backbone: {_WEIGHTS_HELP}")
    top_k: int = option(
        5, panel=_OUTPUT, help="How many classes each record lists.", within=Range(1, 1000)
    )
    min_confidence: float = option(
        0.0, panel=_OUTPUT, help="Below it a record has no label.", within=Range(0, 1)
    )
    format: PredictionFormat | None = option(
        None,
        panel=_OUTPUT,
        help="How to write them.",
        show_default="by the file's suffix; else table in a terminal, jsonl in a pipe",
    )
    output: Path | None = option(
        None,
        panel=_OUTPUT,
        flags=("-o", "--output"),
        help="File to write.",
        metavar="FILE",
        show_default="standard output",
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


@dataclass(frozen=True)
class EvaluateOptions(ComputeOptions):
    """Options of `transferkit evaluate`."""

    data: Path = option(argument=True, help=_DATA_HELP)
    model: str = option(panel=_MODEL, flags=("-m", "--model"), help=_MODEL_HELP, metavar="RUN")
    output: Path | None = option(
        None,
        panel=_OUTPUT,
        flags=("-o", "--output"),
        help="JSON file for the metrics.",
        metavar="FILE",
        show_default="standard output",
    )


@dataclass(frozen=True)
class BackbonesOptions(Options):
    """Options of `transferkit backbones`."""

    pattern: str = option("*", argument=True, help="A part of the name, or a pattern with * and ?.")
    local: bool = option(False, flags=("--local",), help="Only those whose weights are here.")
    layers: bool = option(
        False,
        flags=("--layers",),
        help="The layers of one backbone, as --layer takes them, instead of the list.",
    )
    image_size: int | None = option(
        None,
        help="With --layers: side of the pictures in pixels.",
        within=Range(1),
        show_default="the backbone's",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers and (self.local or self.pattern == "*"):
            raise OptionError("--layers: expected the name of one backbone, without --local")
        if self.image_size and not self.layers:
            raise OptionError("--image-size is for --layers")
