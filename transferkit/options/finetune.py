"""The options of `transferkit finetune`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from transferkit.classifiers import Classifier
from transferkit.data.augment import Augment
from transferkit.devices import Cache
from transferkit.errors import OptionError
from transferkit.models import NO_WEIGHTS, PRETRAINED
from transferkit.models.freezing import BatchNorm
from transferkit.models.strategies import STRATEGY_HELP, HeadStart, Strategy
from transferkit.models.unfreeze import HEAD_ALONE, UNFREEZE_HELP, Unfreeze
from transferkit.options.dataset_options import ClassifierOptions
from transferkit.options.declaration import (
    AppliesTo,
    OnResume,
    Option,
    Range,
    declared_options,
    given_flags,
    option_names,
)
from transferkit.options.parsers import AUTO, count_or_auto
from transferkit.options.rate_options import RateOptions
from transferkit.options.shared import (
    COMPUTE,
    DATA,
    DEFAULT_BACKBONE,
    OUTPUT,
    STRATEGY,
    TRAINING,
    Backbone,
    Data,
    Weights,
)
from transferkit.options.tracker_options import TrackerOptions
from transferkit.places import Place


@dataclass(frozen=True)
class FinetuneOptions(ClassifierOptions, RateOptions, TrackerOptions):
    """Options of `transferkit finetune`."""

    data: Data
    output: Annotated[
        Place | None,
        Option(
            panel=OUTPUT,
            flags=("-o", "--output"),
            help="Folder of the run.",
            metavar="RUN",
            show_default="runs/ with a name of data, backbone and strategy or budget",
            on_resume=OnResume.CALL,
        ),
    ] = None
    overwrite: Annotated[
        bool,
        Option(
            panel=OUTPUT,
            flags=("--overwrite",),
            help="Replace an existing run.",
            on_resume=OnResume.CALL,
        ),
    ] = False
    resume: Annotated[
        bool,
        Option(
            panel=OUTPUT,
            flags=("--resume",),
            help="Resume the run in --output from its last checkpoint, with its options.",
            on_resume=OnResume.CALL,
        ),
    ] = False
    checkpoint_minutes: Annotated[
        float,
        Option(
            panel=OUTPUT,
            help="Also save a checkpoint every this many minutes within an epoch.",
            within=Range(0, open_low=True),
            metavar="MINUTES",
            applies_to=AppliesTo.TRAINING,
            on_resume=OnResume.FREE,
        ),
    ] = 10.0
    dry_run: Annotated[
        bool,
        Option(
            panel=OUTPUT,
            flags=("--dry-run",),
            help="Print the plan and stop.",
            on_resume=OnResume.CALL,
        ),
    ] = False
    backbone: Backbone = DEFAULT_BACKBONE
    weights: Weights = PRETRAINED
    strategy: Annotated[
        Strategy,
        Option(
            panel=STRATEGY,
            help=STRATEGY_HELP,
            chosen_by_budget=True,
        ),
    ] = Strategy.PARTIAL
    unfreeze: Annotated[
        Unfreeze,
        Option(
            panel=STRATEGY,
            help=UNFREEZE_HELP,
            parse=Unfreeze,
            metavar="SPEC",
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = HEAD_ALONE
    head_start: Annotated[
        HeadStart | None,
        Option(
            panel=STRATEGY,
            help="How the new head begins: linear as the linear classifier that fits the "
            "pretrained features, so that it does not distort them; or random.",
            show_default="linear where pretrained stages are trained on 20 images per class or "
            "more, for fewer than 100 steps or without BatchNorm, at rates that no test chooses; "
            "else random",
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = None
    freeze_epochs: Annotated[
        int | None,
        Option(
            panel=STRATEGY,
            help="Epochs that train only the head first; 0 for none.",
            within=Range(0),
            show_default="1 for full and gradual from a random head, else 0",
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = None
    thaw_every: Annotated[
        int | None,
        Option(
            panel=STRATEGY,
            help="For gradual: epochs until the next stage is unfrozen; 0 unfreezes all at once.",
            within=Range(0),
            show_default="1",
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = None
    bn: Annotated[
        BatchNorm,
        Option(
            panel=STRATEGY,
            help="BatchNorm in trainable stages: eval keeps the pretrained statistics, train "
            "uses and updates them with each batch; auto is eval, or train with --weights "
            "none.",
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = BatchNorm.AUTO
    augment: Annotated[
        Augment,
        Option(
            panel=DATA,
            help="Strength of the random changes to training images.",
            applies_to=AppliesTo.TRAINING,
        ),
    ] = Augment.LIGHT
    views: Annotated[
        int | None,
        Option(
            panel=DATA,
            help="Augmented views per training image that take turns while layers are frozen, "
            "the plain image first; each is computed once and cached. 0 draws a new view "
            "every epoch.",
            within=Range(0, 1000),
            show_default="1 for the head alone; 4 for last stages; 0 for full, gradual and strong",
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = None
    epochs: Annotated[
        int,
        Option(
            panel=TRAINING,
            help="Passes over the training images.",
            within=Range(1),
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = 10
    budget: Annotated[
        float | None,
        Option(
            panel=TRAINING,
            help="Be done in this many minutes: chooses --strategy, --image-size and --epochs for "
            "the images and this machine, by their measured pace.",
            within=Range(0, open_low=True),
            metavar="MINUTES",
            show_default=False,
            on_resume=OnResume.CALL,
        ),
    ] = None
    patience: Annotated[
        int,
        Option(
            panel=TRAINING,
            help="Stop after this many epochs without improvement; 0 never does.",
            within=Range(0),
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = 5
    optimizer: Annotated[
        str,
        Option(
            panel=TRAINING,
            help="Name of a timm optimizer: adamw, sgd, lion and about 90 more.",
            applies_to=AppliesTo.TRAINING,
        ),
    ] = "adamw"
    weight_decay: Annotated[
        float,
        Option(
            panel=TRAINING,
            help="Weight decay, applied to weight matrices only.",
            within=Range(0),
            applies_to=AppliesTo.TRAINING,
        ),
    ] = 0.01
    label_smoothing: Annotated[
        float,
        Option(
            panel=TRAINING,
            help="Share of each label's probability spread over all classes.",
            within=Range(0, 1, open_high=True),
            applies_to=AppliesTo.TRAINING,
        ),
    ] = 0.0
    compile: Annotated[
        bool,
        Option(
            panel=COMPUTE,
            flags=("--compile",),
            help="Compile the trained layers with torch.compile, in the first steps of each phase. "
            "Meant for GPUs and long runs; needs a C++ compiler.",
            applies_to=AppliesTo.TRAINING,
        ),
    ] = False
    processes: Annotated[
        int | Literal["auto"] | None,
        Option(
            panel=COMPUTE,
            help="Processes on this machine that train together and divide each batch; auto is one "
            "per GPU.",
            within=Range(1),
            parse=count_or_auto,
            metavar="N|auto",
            show_default="1, or what torchrun starts",
            on_resume=OnResume.CALL,
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_strategy()
        self._check_phases()
        if self.budget is not None and (given := given_flags(self, ("find_lr", "resume"))):
            raise OptionError(
                f"--budget starts a new run and trains it, {given[0]} does not; leave one out"
            )
        if self.budget is not None and self.compile:
            raise OptionError(
                "--budget measures steps that are not compiled, and --compile takes time of its "
                "own; leave one out"
            )
        if isinstance(self.processes, int) and not self.resume:
            self.require_processes_possible(self.processes)
        if self.find_lr and self.dry_run:
            raise OptionError(
                "--find-lr trains for a few steps, --dry-run trains nothing; leave one out"
            )
        if self.resume and (given := given_flags(self, ("overwrite", "dry_run", "find_lr"))):
            raise OptionError(f"{given[0]} starts a run, --resume resumes one; leave one out")

    @classmethod
    def check_given(cls, given: Mapping[str, Any]) -> None:
        """Check that no option was given that `--budget` chooses.

        Raises:
            OptionError: When one was given.
        """
        if given.get("budget") is None:
            return
        for declared in declared_options(cls):
            if declared.option.chosen_by_budget and declared.name in given:
                raise OptionError(f"--budget chooses {declared.flag}; leave one of them out")

    def require_processes_possible(self, count: int) -> None:
        """Check that so many processes can carry out the run together.

        Raises:
            OptionError: When they cannot.
        """
        if count > 1 and self.budget is not None:
            raise OptionError("--budget plans the run of one process; leave out --processes")
        if count > 1 and self.cache is Cache.MEMORY:
            raise OptionError(
                "--cache memory: several processes share rows on disk only; use disk, auto or off"
            )
        if self.batch_size != AUTO and self.batch_size < count:
            raise OptionError(
                f"--batch-size: got {self.batch_size} for {count} processes, expected at least one "
                "image for each"
            )

    def _check_strategy(self) -> None:
        """Refuse options that would have no effect with this strategy."""
        if self.strategy is Strategy.FEATURES:
            if given := given_flags(self, option_names(self, applies_to=AppliesTo.TRAINING)):
                raise OptionError(
                    f"{given[0]}: --strategy features trains no network; leave the option out, or "
                    "choose another strategy"
                )
            if self.classifier is None:
                object.__setattr__(self, "classifier", Classifier.LINEAR)
        elif given := given_flags(self, option_names(self, applies_to=AppliesTo.FEATURES)):
            raise OptionError(f"{given[0]} is for --strategy features, not for {self.strategy}")

    def _check_phases(self) -> None:
        partial = self.strategy is Strategy.PARTIAL
        if not partial and self.unfreeze != HEAD_ALONE:
            raise OptionError(
                f"--unfreeze {self.unfreeze} is for --strategy partial; {self.strategy} trains "
                "every stage"
            )
        if self.thaw_every is not None and self.strategy is not Strategy.GRADUAL:
            raise OptionError(f"--thaw-every is for --strategy gradual, not for {self.strategy}")
        if self.trains_head_alone:
            of_the_backbone = {
                "--freeze-epochs": bool(self.freeze_epochs),
                "--bn": self.bn is not BatchNorm.AUTO,
                "--backbone-lr": self.backbone_learning_rate is not None,
                "--layer-decay": self.layer_decay is not None,
                "--lr A:B": isinstance(self.learning_rate, tuple),
            }
            if given := [flag for flag, is_given in of_the_backbone.items() if is_given]:
                raise OptionError(
                    f"{given[0]}: --unfreeze head leaves the backbone unchanged; leave the option "
                    "out, or train more with --unfreeze or --strategy"
                )
        if self.freeze_epochs and self.freeze_epochs >= self.epochs:
            raise OptionError(
                f"--freeze-epochs: got {self.freeze_epochs} of {self.epochs} epochs, which leaves "
                "no epoch for anything but the head; expected less than --epochs"
            )

    @property
    def from_scratch(self) -> bool:
        """Whether the backbone's weights are random, so that there is nothing to preserve."""
        return self.weights == NO_WEIGHTS

    @property
    def trains_head_alone(self) -> bool:
        """Whether only the new head is trained, in every epoch."""
        return self.strategy is Strategy.PARTIAL and self.unfreeze == HEAD_ALONE

    @property
    def trains(self) -> bool:
        """Whether it trains or fits a model, rather than showing a plan or testing rates."""
        return not (self.dry_run or self.find_lr)

    @property
    def epochs_per_thaw(self) -> int:
        """How many epochs a gradual run trains each stage before it unfreezes the next one."""
        return 1 if self.thaw_every is None else self.thaw_every

    def resolved_head_start(self, *, can_be_linear: bool) -> HeadStart:
        """Return how the head begins, in a network and dataset where it can be linear or not."""
        if self.head_start is not None:
            return self.head_start
        # A range test needs a loss that can fall, which a fitted head leaves hardly any room for.
        if self.tests_rates:
            return HeadStart.RANDOM
        trains_pretrained = not self.from_scratch and not self.trains_head_alone
        return HeadStart.LINEAR if trains_pretrained and can_be_linear else HeadStart.RANDOM

    def head_epochs(self, start: HeadStart) -> int:
        """Return how many epochs train only the head first."""
        if self.freeze_epochs is not None:
            return self.freeze_epochs
        # A random head would distort pretrained stages that are trained with it from the start.
        distorts = start is HeadStart.RANDOM and not self.from_scratch
        return 1 if distorts and self.strategy.trains_every_stage and self.epochs > 1 else 0
