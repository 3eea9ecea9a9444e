"""The plan of a run, told before the first training step."""

from transferkit.data.dataset import Dataset
from transferkit.models.backbones import NO_WEIGHTS
from transferkit.models.freezing import Strategy
from transferkit.models.network import Network
from transferkit.models.stages import HEAD, Stage
from transferkit.recipes.options import FinetuneOptions
from transferkit.reporting import Plan, StageRow


def create_plan(
    options: FinetuneOptions, dataset: Dataset, network: Network, trainable: tuple[Stage, ...]
) -> Plan:
    """Everything that is decided, from the options and what they led to."""
    sizes = {name: p.numel() for name, p in network.module.named_parameters()}
    moving = {stage.name: sum(sizes[name] for name in stage.parameters) for stage in trainable}
    stages = tuple(
        StageRow(
            name=stage.name,
            modules=stage.modules,
            parameters=sum(sizes[name] for name in stage.parameters),
            trainable=moving.get(stage.name, 0),
            learning_rate=_rate(options, stage) if stage.name in moving else None,
        )
        for stage in network.stages
    )
    return Plan(_settings(options, network), dataset.counts(), dataset.index.left_out, stages)


def _rate(options: FinetuneOptions, stage: Stage) -> float:
    return options.learning_rate if stage.name == HEAD else options.backbone_rate


def _settings(options: FinetuneOptions, network: Network) -> tuple[tuple[str, str], ...]:
    weights = options.weights
    if weights == NO_WEIGHTS:
        weights = "none: random weights, this trains from scratch and transfers nothing"
        if options.strategy is Strategy.PARTIAL:
            weights += "; the frozen part stays random, --strategy full trains it"
    what = options.unfreeze if options.strategy is Strategy.PARTIAL else "everything"
    return (
        ("data", str(options.data)),
        ("backbone", network.name),
        ("weights", weights),
        ("strategy", f"{options.strategy} ({what})"),
        ("pictures", network.preprocessing.describe()),
        ("augmentation", str(options.augment)),
        ("training", f"{options.epochs} epochs, batches of {options.batch_size}, "
                     f"patience {options.patience}, seed {options.seed}"),
    )  # fmt: skip
