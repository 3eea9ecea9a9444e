"""What a run is going to do, settled and told before the first training step."""

from collections.abc import Mapping, Sequence

from transferkit.data.augment import Augment
from transferkit.data.dataset import Dataset
from transferkit.devices import Cache
from transferkit.errors import OptionError, name_some
from transferkit.models import EDGES8, PRETRAINED
from transferkit.models.freezing import BatchNorm
from transferkit.models.network import Network
from transferkit.models.origin import embedded_folders
from transferkit.models.phases import Phase, Strategy
from transferkit.models.stages import HEAD, Stage
from transferkit.recipes.caching import PhaseCache, describe_size
from transferkit.recipes.declaration import AUTO
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.recipes.settling import settle_batch_norm, settle_views
from transferkit.reporting import PhaseRow, Plan, StageRow

_WHERE = {Cache.MEMORY: "in memory", Cache.DISK: "on disk"}


def create_plan(
    options: FinetuneOptions,
    dataset: Dataset,
    network: Network,
    phases: Sequence[Phase],
    rates: Mapping[str, float],
    caches: Sequence[PhaseCache],
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
    settings += (("augmentation", _augmentation(options)), ("cache", _cached(phases, caches)))
    if statistics:
        settings += (("batchnorm", _batch_norm(options)),)
    settings += describe_copies(dataset)
    return Plan(settings, dataset.counts(), dataset.index.left_out, stages, rows)


def describe_copies(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    """How many pictures are there more than once, for the plan; nothing where none are."""
    copied = dataset.copied()
    if not copied:
        return ()
    more = sum(len(paths) - 1 for paths in copied)
    told = f"{more} of {len(dataset.index)} images are copies of others, none across the split"
    if dataset.leaked():
        told = f"{more} of {len(dataset.index)} images are copies of others"
    if twice := dataset.labelled_twice():
        pictures = "1 picture stands" if len(twice) == 1 else f"{len(twice)} pictures stand"
        told += (
            f"; {pictures} under more than one label, likely label errors: "
            f"{name_some([name_some(paths, 4, ' = ') for paths in twice])}"
        )
    return (("copies", told),)


def describe_weights(options: FinetuneOptions) -> str:
    """What the backbone begins with, in a line."""
    if options.backbone == EDGES8:
        return "made by formula"
    if options.weights == PRETRAINED and options.backbone in embedded_folders():
        return "pretrained on pictures made by formula, not on ImageNet"
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
        ("training", training),
        ("optimizer", f"{options.optimizer}, {_schedule(options, rates)}"),
    )


def _augmentation(options: FinetuneOptions) -> str:
    if options.augment is Augment.NONE:
        return "none"
    match settle_views(options):
        case 0:
            return f"{options.augment}, a new view of each picture every epoch"
        case 1:
            return (
                "none while layers are frozen: one plain view of each picture (--views 4 takes "
                f"turns of four, --views 0 draws new ones; both {options.augment})"
            )
        case views:
            return f"{options.augment}, {views} views of each picture take turns"


def _cached(phases: Sequence[Phase], caches: Sequence[PhaseCache]) -> str:
    """What is computed once, or why nothing is; said once for phases that are alike."""
    told: dict[str, list[str]] = {}
    for phase, cache in zip(phases, caches, strict=True):
        what = cache.why_not or (
            f"frozen layers computed once, {describe_size(cache.size)} {_WHERE[cache.cache]}"
        )
        told.setdefault(what, []).append(phase.name)
    if len(told) == 1:
        return next(iter(told))
    return "; ".join(f"{', '.join(names)}: {what}" for what, names in told.items())


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
    if options.learning_rate == AUTO:
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
