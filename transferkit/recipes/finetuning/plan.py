"""Describe what a run will do, in words and numbers, before the first training step."""

from collections.abc import Sequence

from transferkit.data.augment import Augment
from transferkit.data.dataset import Dataset
from transferkit.devices import Cache
from transferkit.engines import Engine
from transferkit.engines.runtimes import describe_engine
from transferkit.errors import name_some
from transferkit.models import EDGES8
from transferkit.models.freezing import BatchNorm
from transferkit.models.stages import HEAD, Stage
from transferkit.models.strategies import HeadStart, Strategy
from transferkit.options.finetune import FinetuneOptions
from transferkit.recipes.finetuning.run_in_progress import TrainingRun
from transferkit.recipes.finetuning.settings import (
    PhaseSettings,
    TrainingSettings,
    keeps_statistics,
)
from transferkit.recipes.shared.caches import describe_bytes
from transferkit.reporter import PhaseRow, Plan, StageRow

_WHERE = {Cache.MEMORY: "in memory", Cache.DISK: "on disk"}

_BATCH_NORM = {
    BatchNorm.TRAIN: "train: trainable stages use and update the statistics of each batch",
    BatchNorm.EVAL: "eval: the pretrained statistics stay, in trainable stages too",
}


def create_plan(run: TrainingRun, seconds: tuple[tuple[str, float], ...]) -> Plan:
    """Return everything that is decided before the first training step.

    Args:
        run: The run.
        seconds: Its estimated time, see `estimate_seconds`.
    """
    dataset, network, settings = run.dataset, run.network, run.settings
    phases = [entry.phase for entry in settings.phases]
    sizes = {name: p.numel() for name, p in network.module.named_parameters()}

    def size(stage: Stage) -> int:
        return sum(sizes[name] for name in stage.parameters)

    trainable = {stage.name: size(stage) for stage in phases[-1].trainable}
    begins = {stage.name: p.epochs.start for p in reversed(phases) for stage in p.trainable}
    stages = tuple(
        StageRow(
            name=stage.name,
            modules=stage.modules,
            parameters=size(stage),
            trainable=trainable.get(stage.name, 0),
            learning_rate=settings.learning_rates[stage.name] if stage.name in trainable else None,
            first_epoch=begins.get(stage.name),
        )
        for stage in network.stages
    )
    rows = tuple(
        PhaseRow(p.name, (p.epochs.start, p.epochs.stop - 1), sum(map(size, p.trainable)))
        for p in phases
    )
    return Plan(_settings(run), dataset.counts(), dataset.index.left_out, stages, rows, seconds)


def describe_dataset(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    """Return the plan's rows about the folders, groups, copies and classes that need a word."""
    rows = [("layout", dataset.index.layout)] if dataset.index.layout else []
    if dataset.groups:
        count, divided = len(set(dataset.groups)), len(dataset.divided_groups())
        rows.append(("groups", f"{count}, {divided or 'none'} of them divided by the split"))
    if lone := dataset.lone_classes():
        total = len(dataset.index.class_names)
        text = f"{len(lone)} of {total} have no validation image: {name_some(lone)}"
        rows.append(("classes", text))
    return (*rows, *_describe_copies(dataset))


def _describe_copies(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    copied = dataset.copied()
    if not copied:
        return ()
    more = sum(len(paths) - 1 for paths in copied)
    text = f"{more} of {len(dataset.index)} images are copies of others"
    if not dataset.leaked():
        text += ", none across the split"
    if twice := dataset.labelled_twice():
        images = "1 image has" if len(twice) == 1 else f"{len(twice)} images have"
        text += (
            f"; {images} copies under more than one label, likely label errors: "
            f"{name_some([name_some(paths, 4, ' = ') for paths in twice])}"
        )
    return (("copies", text),)


def describe_frozen(engine: Engine) -> str:
    """Describe what computes the frozen layers."""
    return f"{describe_engine(engine)} computes the frozen layers"


def describe_weights(options: FinetuneOptions) -> str:
    """Describe the weights that the backbone starts from."""
    if options.backbone == EDGES8:
        return "computed by formula"
    if not options.from_scratch:
        return options.weights
    match options.strategy:
        case Strategy.FEATURES:
            return "none: random weights, so the features mean nothing yet"
        case Strategy.PARTIAL:
            frozen = "; the frozen part stays random, use --strategy full to train it"
        case _:
            frozen = ""
    return f"none: random weights, this trains from scratch and transfers nothing{frozen}"


def _settings(run: TrainingRun) -> tuple[tuple[str, str], ...]:
    """Return the settings, as (name, value) pairs."""
    options, network, settings = run.options, run.network, run.settings
    training = (
        f"{options.epochs} epochs, batches of {run.compute.batch_size}, "
        f"patience {options.patience}, seed {options.seed}{', compiled' * options.compile}"
    )
    chosen = [
        ("data", str(options.data)),
        ("backbone", network.name),
        ("weights", describe_weights(options)),
        ("strategy", _strategy(options, settings)),
        ("input", network.preprocessing.describe()),
        ("training", training),
        *((("processes", _processes(run)),) if run.processes.are_several else ()),
        ("optimizer", f"{options.optimizer}, {_schedule(options, settings)}"),
        *((("budget", run.budget.choice),) if run.budget else ()),
        ("augmentation", _augmentation(options, settings.views)),
        ("cache", _cached(settings.phases)),
    ]
    if any(entry.cut for entry in settings.phases):
        chosen.append(("engine", describe_frozen(settings.engine)))
    if keeps_statistics(network, settings.last_phase.trainable):
        chosen.append(("batchnorm", _BATCH_NORM[settings.batch_norm]))
    return (*chosen, *describe_dataset(run.dataset))


def _processes(run: TrainingRun) -> str:
    count, size = run.processes.count, run.compute.batch_size
    return f"{count}, each computes {size / count:g} of the {size} images of a batch"


def _augmentation(options: FinetuneOptions, views: int) -> str:
    if options.augment is Augment.NONE:
        return "none"
    match views:
        case 0:
            return f"{options.augment}, a new view of each image every epoch"
        case 1:
            advice = (
                f" (--views 4 alternates four, --views 0 draws new ones; both {options.augment})"
                if options.budget is None
                else ""
            )
            return f"none while layers are frozen: one plain view of each image{advice}"
        case _:
            return f"{options.augment}, {views} views of each image take turns"


def _cached(phases: Sequence[PhaseSettings]) -> str:
    """Describe what is cached in which phases, or why nothing is."""
    phases_of: dict[str, list[str]] = {}
    for entry in phases:
        what = entry.cache.why_not or (
            f"frozen layers computed once, {describe_bytes(entry.cache.size)} "
            f"{_WHERE[entry.cache.place]}"
        )
        phases_of.setdefault(what, []).append(entry.phase.name)
    if len(phases_of) == 1:
        return next(iter(phases_of))
    return "; ".join(f"{', '.join(names)}: {what}" for what, names in phases_of.items())


def _strategy(options: FinetuneOptions, settings: TrainingSettings) -> str:
    last = settings.last_phase
    text = f"{options.strategy} ({last.name if last.freezes_anything else 'everything'})"
    if settings.head_epochs:
        epochs = "epoch" if settings.head_epochs == 1 else f"{settings.head_epochs} epochs"
        text += (
            f", the first {epochs} for the head alone, since a random head would distort the "
            "pretrained weights"
        )
        if options.budget is None:
            text += " (--freeze-epochs 0 skips this)"
    if settings.head_start is HeadStart.LINEAR:
        text += "; the head begins as the linear classifier that fits the pretrained features"
    if options.strategy.trains_every_stage and last.freezes_anything:
        text += f"; {options.epochs} epochs do not reach the stem"
    return text


def _schedule(options: FinetuneOptions, settings: TrainingSettings) -> str:
    if settings.rates_are_provisional:
        return (
            f"{options.scheduler} schedule, --lr auto: the rates below are scaled from the head's "
            f"{settings.learning_rates[HEAD]:.1e} to what the range test suggests"
        )
    return f"{options.scheduler} schedule, weight decay {options.weight_decay:g}"
