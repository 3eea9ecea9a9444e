"""What a run is going to do, settled and told before the first training step."""

from collections.abc import Mapping, Sequence

from transferkit.data.dataset import Dataset
from transferkit.errors import OptionError
from transferkit.models import EDGES8
from transferkit.models.freezing import BatchNorm
from transferkit.models.network import Network
from transferkit.models.phases import Phase, Strategy, plan_phases
from transferkit.models.stages import HEAD, Stage
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.reporting import PhaseRow, Plan, StageRow
from transferkit.training.rates import (
    BACKBONE_SHARE,
    default_layer_decay,
    spread_rates,
    stage_rates,
)

STAND_IN_RATE = 1e-3
"""The head's rate with `--lr auto`, until the range test has found a better one."""


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
    head_rate = STAND_IN_RATE if rate is None else rate
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
    }


def create_plan(
    options: FinetuneOptions,
    dataset: Dataset,
    network: Network,
    phases: Sequence[Phase],
    rates: Mapping[str, float],
) -> Plan:
    """Everything that is decided, from the options and what they led to.

    Raises:
        OptionError: When the batches are too small for what is trained.
    """
    statistics = _keeps_statistics(network, phases[-1].trainable)
    if options.batch_size == 1 and statistics and settle_batch_norm(options) is BatchNorm.TRAIN:
        raise OptionError(
            "--batch-size: got 1, and BatchNorm needs two pictures to train on; take more, or "
            "--bn eval"
        )
    sizes = {name: p.numel() for name, p in network.module.named_parameters()}

    def size(stage: Stage) -> int:
        return sum(sizes[name] for name in stage.parameters)

    moving = {stage.name: size(stage) for stage in phases[-1].trainable}
    begins = {stage.name: p.epochs.start for p in reversed(phases) for stage in p.trainable}
    stages = tuple(
        StageRow(
            name=stage.name,
            modules=stage.modules,
            parameters=size(stage),
            trainable=moving.get(stage.name, 0),
            learning_rate=rates[stage.name] if stage.name in moving else None,
            first_epoch=begins.get(stage.name),
        )
        for stage in network.stages
    )
    rows = tuple(
        PhaseRow(p.name, (p.epochs.start, p.epochs.stop - 1), sum(map(size, p.trainable)))
        for p in phases
    )
    settings = _settings(options, network, phases, rates)
    if statistics:
        settings += (("batchnorm", _batch_norm(options)),)
    return Plan(settings, dataset.counts(), dataset.index.left_out, stages, rows)


def describe_weights(options: FinetuneOptions) -> str:
    """What the backbone begins with, in a line."""
    if options.backbone == EDGES8:
        return "made by formula"
    if not options.from_scratch:
        return options.weights
    match options.strategy:
        case Strategy.FEATURES:
            return "none: random weights, whose features are those of chance"
        case Strategy.PARTIAL:
            frozen = "; the frozen part stays random, --strategy full trains it"
        case _:
            frozen = ""
    return f"none: random weights, this trains from scratch and transfers nothing{frozen}"


def _settings(
    options: FinetuneOptions,
    network: Network,
    phases: Sequence[Phase],
    rates: Mapping[str, float],
) -> tuple[tuple[str, str], ...]:
    training = (
        f"{options.epochs} epochs, batches of {options.batch_size}, patience {options.patience}, "
        f"seed {options.seed}"
    )
    return (
        ("data", str(options.data)),
        ("backbone", network.name),
        ("weights", describe_weights(options)),
        ("strategy", _strategy(options, phases[-1].name)),
        ("pictures", network.preprocessing.describe()),
        ("augmentation", str(options.augment)),
        ("training", training),
        ("optimizer", f"{options.optimizer}, {_schedule(options, rates)}"),
    )


def _strategy(options: FinetuneOptions, reached: str) -> str:
    told = f"{options.strategy} ({'everything' if reached == 'all' else reached})"
    if options.head_epochs:
        epochs = "epoch" if options.head_epochs == 1 else f"{options.head_epochs} epochs"
        told += (
            f", the first {epochs} for the head alone, since a random head would distort what is "
            "pretrained (--freeze-epochs 0 does without)"
        )
    if options.strategy is Strategy.GRADUAL and reached != "all":
        told += f"; {options.epochs} epochs do not reach the stem"
    return told


def _schedule(options: FinetuneOptions, rates: Mapping[str, float]) -> str:
    if options.learning_rate is None:
        return (
            f"{options.scheduler} schedule, --lr auto: the rates below are scaled from the head's "
            f"{rates[HEAD]:.1e} to what the range test suggests"
        )
    return f"{options.scheduler} schedule, weight decay {options.weight_decay:g}"


def _batch_norm(options: FinetuneOptions) -> str:
    if settle_batch_norm(options) is BatchNorm.TRAIN:
        return "train: trainable stages use and update the statistics of each batch"
    return "eval: the pretrained statistics stay, in trainable stages too"


def _keeps_statistics(network: Network, stages: Sequence[Stage]) -> bool:
    below = tuple(f"{module}." for stage in stages for module in stage.modules)
    buffers = (name for name, _ in network.module.named_buffers())
    return any(name.startswith(below) and "running_" in name for name in buffers)
