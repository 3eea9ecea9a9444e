"""Resolve everything that the options leave open, for one dataset, network and machine."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TypedDict

import torch

from transferkit.compute import ComputeSettings
from transferkit.data.augment import Augment
from transferkit.data.dataset import Dataset
from transferkit.devices import Cache, Precision
from transferkit.engines import Engine
from transferkit.errors import OptionError
from transferkit.forward_pass import create_pass, features_of, prefix_of
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.freezing import BatchNorm, freeze, train_mode
from transferkit.models.network import Network
from transferkit.models.network_cut import cut_network
from transferkit.models.strategies import HeadStart, Phase, plan_phases
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.parsers import AUTO
from transferkit.processes import started_processes
from transferkit.recipes.finetuning.choose_batch_size import choose_batch_size
from transferkit.recipes.finetuning.settings import (
    FeatureSettings,
    PhaseSettings,
    TrainingSettings,
    keeps_statistics,
    rates_of_stages,
)
from transferkit.recipes.finetuning.start_head import FEWEST_PER_CLASS, MOST
from transferkit.recipes.shared.caches import (
    CacheChoice,
    choose_cache,
    choose_pixel_cache,
)
from transferkit.training.compilation import require_compiler
from transferkit.training.learning_rates import BACKBONE_SHARE, default_layer_decay, spread_rates

_VIEWS_OF_HEAD, _VIEWS_OF_STAGES = 1, 4
"""Measured on cat breeds: more views help trained stages, but not a head alone."""

RATE, HIGH_RATE, RATE_OF_LINEAR_HEAD = 1e-3, 1e-2, 1e-4
"""Default rates of the head. Measured: a head trained alone takes ten times the rate, and so does a
long run; a head that begins as a linear classifier forgets it at more than a tenth."""

LONG = 100
"""Steps of a long run. Measured: with 120 or more, high rates from a random head were as good as
low rates from a linear one, or better by up to 2 points; with 80 or fewer, their log loss was
higher."""


def resolve_training(
    options: FinetuneOptions, dataset: Dataset, network: Network, compute: ComputeSettings
) -> TrainingSettings:
    """Resolve the settings of a strategy that trains the network.

    Args:
        options: The options as given.
        dataset: The dataset to train on.
        network: The network, on its device; left frozen as in the last phase.
        compute: Device, precision, batch size and threads.

    Raises:
        OptionError: When `--unfreeze` matches nothing in this network, the batches are too small
            for what is trained, torch cannot compile, or `--cache memory` or `disk` has too
            little room.
        EngineError: When an engine that was asked for by name cannot compute a frozen part.
    """
    if options.compile:
        require_compiler(compute.device)
    compute = _with_batch_size(options, dataset, network, compute)
    head_start = _head_start(options, dataset, network, compute)
    head_epochs = options.head_epochs(head_start)
    phases = plan_phases(
        network,
        strategy=options.strategy,
        unfreeze=options.unfreeze,
        epochs=options.epochs,
        freeze_epochs=head_epochs,
        thaw_every=options.epochs_per_thaw,
    )
    settings = TrainingSettings(
        compute=compute,
        cache_limit=_cache_limit(options),
        phases=(),
        **_rates(
            options,
            [stage.name for stage in network.stages],
            head_start,
            takes_high_rates=_takes_high_rates(options, dataset, network, compute),
        ),
        rates_are_provisional=options.learning_rate == AUTO,
        head_start=head_start,
        head_epochs=head_epochs,
        epochs_per_thaw=options.epochs_per_thaw,
        batch_norm=_batch_norm(options),
        views=_views(options, phases[-1]),
        pixel_cache=Cache.OFF,
    )
    _require_batches_suffice(settings, network, phases[-1])
    read = tuple(_phase_settings(settings, options, dataset, network, p) for p in phases)
    if len({entry.engine for entry in read if entry.cut}) > 1:
        read = tuple(replace(entry, engine=Engine.TORCH) for entry in read)
    epochs = sum(len(e.phase.epochs) for e in read if e.cache.place is Cache.OFF or not e.views)
    size = _pixels_size(dataset, network)
    pixel_cache = choose_pixel_cache(options.cache, size, epochs=epochs)
    return replace(settings, phases=read, pixel_cache=pixel_cache)


def resolve_features(
    options: FinetuneOptions,
    dataset: Dataset,
    extractor: FeatureExtractor,
    compute: ComputeSettings,
) -> FeatureSettings:
    """Resolve the settings of the strategy `features`.

    Args:
        options: The options as given.
        dataset: The dataset to fit a classifier on.
        extractor: The extractor, its network on its device.
        compute: Device, precision, batch size and threads.

    Raises:
        OptionError: When `--cache memory` or `disk` has too little room.
        EngineError: When an engine that was asked for by name cannot compute the features.
    """
    count = len(dataset.rows("train")) + len(dataset.rows("val"))
    size = count * prod(extractor.shape) * torch.float32.itemsize
    limit = _cache_limit(options)
    cache = choose_cache(options.cache, size, limit=limit, what="features")
    return FeatureSettings(
        compute=compute,
        cache_limit=limit,
        extractor=extractor,
        engine=create_pass(features_of(extractor), compute).engine,
        cache=cache,
    )


def _with_batch_size(
    options: FinetuneOptions, dataset: Dataset, network: Network, compute: ComputeSettings
) -> ComputeSettings:
    """Return the compute settings with the batch size for training."""
    if options.batch_size != AUTO:
        return compute
    *_, last = plan_phases(
        network,
        strategy=options.strategy,
        unfreeze=options.unfreeze,
        epochs=options.epochs,
        freeze_epochs=0,
        thaw_every=options.epochs_per_thaw,
    )
    images = len(dataset.rows("train"))
    size = choose_batch_size(network, last, compute, images, started_processes())
    return replace(compute, batch_size=size)


def _head_start(
    options: FinetuneOptions, dataset: Dataset, network: Network, compute: ComputeSettings
) -> HeadStart:
    """Return how the head begins.

    Raises:
        OptionError: When the head cannot begin as the options say.
    """
    is_linear = network.has_linear_head()
    if options.head_start is HeadStart.LINEAR and not is_linear:
        raise OptionError(
            f"--head-start linear: the head of {network.name} is not a single linear layer on its "
            "features; use random"
        )
    images = min(len(dataset.rows("train")), MOST)
    shows_enough = images >= FEWEST_PER_CLASS * network.num_classes
    is_better = shows_enough and not _takes_high_rates(options, dataset, network, compute)
    return options.resolved_head_start(can_be_linear=is_linear and is_better)


def _takes_high_rates(
    options: FinetuneOptions, dataset: Dataset, network: Network, compute: ComputeSettings
) -> bool:
    """Return whether a run is long enough for high rates, of a network that takes them.

    They were measured with networks that normalise by BatchNorm. Others, as transformers, are
    trained at a tenth of such rates.
    """
    steps = options.epochs * -(-len(dataset.rows("train")) // compute.batch_size)
    return steps >= LONG and keeps_statistics(network, network.stages)


def _cache_limit(options: FinetuneOptions) -> int:
    return int(options.cache_limit * 10**9)


def _batch_norm(options: FinetuneOptions) -> BatchNorm:
    if options.bn is not BatchNorm.AUTO:
        return options.bn
    # With random weights, there are no pretrained statistics to keep.
    return BatchNorm.TRAIN if options.from_scratch else BatchNorm.EVAL


def _views(options: FinetuneOptions, last: Phase) -> int:
    """Return the number of views of an image that take turns while layers are frozen."""
    if options.augment is Augment.NONE:
        return 1
    if options.views is not None:
        return options.views
    # With strong augmentation, the plain view alone would not be what the user asked for.
    if (
        options.strategy.trains_every_stage
        or not last.freezes_anything
        or options.augment is Augment.STRONG
    ):
        return 0
    return _VIEWS_OF_HEAD if options.trains_head_alone else _VIEWS_OF_STAGES


class _Rates(TypedDict):
    learning_rate: float | tuple[float, float]
    learning_rates: dict[str, float]
    backbone_share: float
    layer_decay: float | None


def _rates(
    options: FinetuneOptions, stages: Sequence[str], start: HeadStart, *, takes_high_rates: bool
) -> _Rates:
    """Return the peak rate of every stage, and the values it was computed from."""
    rate = options.learning_rate
    if isinstance(rate, tuple):
        rates = spread_rates(stages, *rate)
        return _Rates(
            learning_rate=rate, learning_rates=rates, backbone_share=1.0, layer_decay=None
        )
    # A head that begins as a classifier is no newer than the stages below it.
    is_as_old = start is HeadStart.LINEAR and rate is None
    share = 1.0 if options.from_scratch or is_as_old else BACKBONE_SHARE
    if rate is None:
        rate = _default_rate(options, start, takes_high_rates=takes_high_rates)
    elif rate == AUTO:
        rate = RATE  # the range test scales it
    backbone_rate = options.backbone_learning_rate
    if backbone_rate is None:
        backbone_rate = rate * share
    decay = options.layer_decay
    if decay is None:
        decay = 1.0 if options.from_scratch else default_layer_decay(len(stages) - 1)
    return _Rates(
        learning_rate=rate,
        learning_rates=rates_of_stages(stages, rate, backbone_rate, decay),
        backbone_share=share,
        layer_decay=decay,
    )


def _default_rate(options: FinetuneOptions, start: HeadStart, *, takes_high_rates: bool) -> float:
    if start is HeadStart.LINEAR:
        return RATE_OF_LINEAR_HEAD
    is_high = takes_high_rates and not options.from_scratch
    return HIGH_RATE if options.trains_head_alone or is_high else RATE


def _phase_settings(
    settings: TrainingSettings,
    options: FinetuneOptions,
    dataset: Dataset,
    network: Network,
    phase: Phase,
) -> PhaseSettings:
    """Freeze the network for a phase, and resolve how the phase reads its images."""
    compute = settings.compute
    freeze(network.module, phase.parameters)
    train_mode(network.module, settings.batch_norm)
    cut = cut_network(network, phase.parameters) if phase.freezes_anything else None
    # Without frozen layers nothing is cached, so a new view costs no more than an old one.
    is_varied = not phase.freezes_anything and options.augment is not Augment.NONE
    views = 0 if is_varied else settings.views
    if options.cache is Cache.OFF:
        cache = CacheChoice(Cache.OFF, why_not="--cache off")
    elif not phase.freezes_anything:
        cache = CacheChoice(Cache.OFF, why_not="nothing is frozen")
    elif len(phase.epochs) < 2:
        cache = CacheChoice(Cache.OFF, why_not="one epoch reads each image once")
    elif cut is None:
        why_not = f"the frozen part of {network.name} cannot be split off"
        cache = CacheChoice(Cache.OFF, why_not=why_not)
    else:
        rows = len(dataset.rows("train")) * settings.views + len(dataset.rows("val"))
        itemsize = 2 if compute.precision is Precision.BF16 else 4
        size = rows * prod(cut.shape) * itemsize
        cache = choose_cache(options.cache, size, limit=settings.cache_limit, what=phase.name)
    engine = create_pass(prefix_of(network, cut), compute).engine if cut else Engine.TORCH
    return PhaseSettings(phase, views, cut, engine, cache)


def _pixels_size(dataset: Dataset, network: Network) -> int:
    """Return roughly the bytes of the decoded pixels of all images."""
    _, height, width = network.preprocessing.input_size
    # Varied views are cut from images with sides half as long again, at an aspect ratio of 4:3.
    train, val = (len(dataset.rows(split)) for split in ("train", "val"))
    return 3 * height * width * (3 * train + val)


def _require_batches_suffice(settings: TrainingSettings, network: Network, last: Phase) -> None:
    """Check that BatchNorm in train mode has a batch to train on: all of it, with enough images.

    Raises:
        OptionError: When it has too few, or processes could not share its statistics.
    """
    trains_statistics = settings.batch_norm is BatchNorm.TRAIN and keeps_statistics(
        network, last.trainable
    )
    processes = started_processes()
    if processes.are_several and trains_statistics and settings.compute.device.type == "cpu":
        raise OptionError(
            "--bn train: torch does not share BatchNorm's statistics between processes on a CPU, "
            "and each would train on its own; use --bn eval, or one process"
        )
    if settings.compute.batch_size == 1 and trains_statistics:
        raise OptionError(
            "--batch-size: got 1, and BatchNorm needs two images to train on; use more, or --bn "
            "eval"
        )
