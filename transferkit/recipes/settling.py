"""What stands for "automatic" in the options of training, settled for one network."""

from collections.abc import Mapping

from transferkit.data.augment import Augment
from transferkit.models.freezing import BatchNorm
from transferkit.models.network import Network
from transferkit.models.phases import Phase, Strategy, plan_phases
from transferkit.recipes.declaration import AUTO
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.training.rates import (
    BACKBONE_SHARE,
    default_layer_decay,
    spread_rates,
    stage_rates,
)

_VIEWS_OF_HEAD, _VIEWS_OF_STAGES = 1, 4
"""Measured on cat breeds, README: a head alone gains nothing from more, trained stages do."""

RATE, RATE_OF_HEAD_ALONE = 1e-3, 1e-2
"""The head's rate unless one is given. Measured, README: a head alone bears ten times as much."""


def settle_phases(options: FinetuneOptions, network: Network) -> tuple[Phase, ...]:
    """Which stages are trained in which epochs.

    Raises:
        OptionError: When `--unfreeze` names nothing that this network has.
    """
    return plan_phases(
        network.stages,
        strategy=options.strategy,
        unfreeze=options.unfreeze,
        epochs=options.epochs,
        freeze_epochs=options.head_epochs,
        thaw_every=options.epochs_per_thaw,
    )


def settle_rates(options: FinetuneOptions, network: Network) -> dict[str, float]:
    """The peak learning rate of every stage, frozen ones included."""
    names = [stage.name for stage in network.stages]
    rate = options.learning_rate
    if isinstance(rate, tuple):
        return spread_rates(names, *rate)
    if rate is None:
        head_rate = RATE_OF_HEAD_ALONE if options.trains_head_alone else RATE
    else:
        # The range test begins with a rate to scale.
        head_rate = RATE if rate == AUTO else rate
    backbone_rate = options.backbone_learning_rate
    if backbone_rate is None:
        backbone_rate = head_rate * (1 if options.from_scratch else BACKBONE_SHARE)
    *backbone, head = names
    return stage_rates(
        backbone,
        head,
        head_rate=head_rate,
        backbone_rate=backbone_rate,
        decay=settle_layer_decay(options, network),
    )


def settle_layer_decay(options: FinetuneOptions, network: Network) -> float:
    """The factor on the rate per stage towards the stem."""
    if options.layer_decay is not None:
        return options.layer_decay
    return 1.0 if options.from_scratch else default_layer_decay(len(network.stages) - 1)


def settle_batch_norm(options: FinetuneOptions) -> BatchNorm:
    """`eval` or `train`, for `auto` too."""
    if options.bn is not BatchNorm.AUTO:
        return options.bn
    # Random weights come with statistics of no picture at all.
    return BatchNorm.TRAIN if options.from_scratch else BatchNorm.EVAL


def settled(
    options: FinetuneOptions, network: Network, rates: Mapping[str, float]
) -> dict[str, object]:
    """The options of training, with what stood for "automatic" filled in."""
    *_, last, head = rates
    spread = isinstance(options.learning_rate, tuple)
    return {
        "learning_rate": options.learning_rate if spread else rates[head],
        "backbone_learning_rate": None if spread else rates[last],
        "layer_decay": None if spread else settle_layer_decay(options, network),
        "learning_rates": rates,
        "freeze_epochs": options.head_epochs,
        "thaw_every": options.epochs_per_thaw,
        "bn": settle_batch_norm(options),
        "views": settle_views(options),
    }


def settle_views(options: FinetuneOptions) -> int:
    """How many views of a picture take turns; 0 draws a new one every epoch."""
    if options.augment is Augment.NONE:
        return 1
    if options.views is not None:
        return options.views
    # Who asks for strong augmentation does not want the plain view alone.
    if options.strategy is not Strategy.PARTIAL or options.augment is Augment.STRONG:
        return 0
    return _VIEWS_OF_HEAD if options.trains_head_alone else _VIEWS_OF_STAGES
