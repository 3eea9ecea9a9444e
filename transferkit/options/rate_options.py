"""Options of the learning rates of stages and head."""

from dataclasses import dataclass
from typing import Annotated, Literal

from transferkit.errors import OptionError
from transferkit.options.declaration import AppliesTo, OnResume, Option, Options, Range
from transferkit.options.parsers import AUTO, rate_spread_or_auto
from transferkit.options.shared import OUTPUT, TRAINING
from transferkit.training.schedule import Scheduler


@dataclass(frozen=True, kw_only=True)
class RateOptions(Options):
    """The learning rate of each stage and how it falls, or a test that suggests one."""

    learning_rate: Annotated[
        float | tuple[float, float] | Literal["auto"] | None,
        Option(
            panel=TRAINING,
            flags=("--lr",),
            help="Learning rate of the head; A:B spreads the rates from A for the stem to B for "
            "the head; auto uses the rate that --find-lr suggests.",
            within=Range(0, open_low=True),
            parse=rate_spread_or_auto,
            metavar="X|A:B|auto",
            show_default="1e-4 with --head-start linear; 1e-2 for the head alone, and for 100 "
            "steps or more of pretrained networks with BatchNorm; else 1e-3",
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = None
    backbone_learning_rate: Annotated[
        float | None,
        Option(
            panel=TRAINING,
            flags=("--backbone-lr",),
            help="Learning rate of the last backbone stage.",
            within=Range(0, open_low=True),
            show_default="lr / 10; lr with --weights none",
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = None
    layer_decay: Annotated[
        float | None,
        Option(
            panel=TRAINING,
            help="Factor on the learning rate from each stage to the one before it, towards the "
            "stem.",
            within=Range(0, 1, open_low=True),
            show_default="gives the stem 1/16 of --backbone-lr; 1 with --weights none",
            applies_to=AppliesTo.TRAINING,
            chosen_by_budget=True,
        ),
    ] = None
    scheduler: Annotated[
        Scheduler,
        Option(
            panel=TRAINING,
            help="How the learning rates fall after the warm-up.",
            applies_to=AppliesTo.TRAINING,
        ),
    ] = Scheduler.COSINE
    find_lr: Annotated[
        bool,
        Option(
            panel=OUTPUT,
            flags=("--find-lr",),
            help="Run a learning rate range test, show and save its curve, suggest a rate and "
            "stop.",
            applies_to=AppliesTo.TRAINING,
            on_resume=OnResume.CALL,
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        rate = self.learning_rate
        if isinstance(rate, tuple):
            if rate[0] > rate[1]:
                raise OptionError(
                    f"--lr: got {':'.join(f'{r:g}' for r in rate)}, expected the stem's rate and "
                    "then the head's, which must not be smaller"
                )
            if self.backbone_learning_rate is not None or self.layer_decay is not None:
                raise OptionError(
                    "--lr A:B sets the rate of every stage; leave out --backbone-lr and "
                    "--layer-decay"
                )
        ratios_given = isinstance(rate, tuple) or self.backbone_learning_rate is not None
        if self.tests_rates and ratios_given:
            raise OptionError(
                "--find-lr, --lr auto: a range test scales all rates together; leave out "
                "--backbone-lr and --lr A:B"
            )

    @property
    def tests_rates(self) -> bool:
        """Whether a learning rate range test comes before training."""
        return self.find_lr or self.learning_rate == AUTO
