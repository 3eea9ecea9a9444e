"""What of a run is computed once: decided before it, and what it takes."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from transferkit.cache import cache_folder
from transferkit.data.dataset import Dataset
from transferkit.devices import Cache, Precision, memory_budget
from transferkit.errors import OptionError
from transferkit.frozen import FrozenLayers
from transferkit.inference import Pass
from transferkit.models.freezing import freeze, train_mode
from transferkit.models.network import Network
from transferkit.models.phases import Phase
from transferkit.models.splitting import split
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.recipes.settling import settle_batch_norm, settle_views

_GB = 10**9


@dataclass(frozen=True)
class PhaseCache:
    """What is computed once in a phase.

    Attributes:
        phase: Its name.
        cache: Memory or disk; off where the frozen layers are computed in every epoch.
        size: Bytes of all rows.
        why_not: Why nothing is cached, for the plan; empty where it is.
    """

    phase: str
    cache: Cache
    size: int = 0
    why_not: str = ""


def settle_caches(
    options: FinetuneOptions,
    dataset: Dataset,
    network: Network,
    phases: Sequence[Phase],
    how: Pass,
) -> tuple[PhaseCache, ...]:
    """What is cached in each phase. Leaves the network frozen as in the last one.

    Args:
        options: What is wanted.
        dataset: The pictures.
        network: In any mode.
        phases: Of the run.
        how: How it computes.

    Raises:
        OptionError: When `--cache memory` or `disk` has no room.
    """
    settled = []
    for phase in phases:
        freeze(network.module, phase.parameters)
        train_mode(network.module, settle_batch_norm(options))
        settled.append(_settle(options, dataset, network, phase, how))
    return tuple(settled)


def _settle(
    options: FinetuneOptions, dataset: Dataset, network: Network, phase: Phase, how: Pass
) -> PhaseCache:
    if options.cache is Cache.OFF:
        return PhaseCache(phase.name, Cache.OFF, why_not="--cache off")
    if phase.name == "all":
        return PhaseCache(phase.name, Cache.OFF, why_not="nothing is frozen")
    if len(phase.epochs) < 2:
        return PhaseCache(phase.name, Cache.OFF, why_not="one epoch reads it once")
    parts = split(network, phase.parameters)
    if parts is None:
        why = f"what is frozen of {network.name} cannot be split off"
        return PhaseCache(phase.name, Cache.OFF, why_not=why)
    train, val = len(dataset.rows("train")), len(dataset.rows("val"))
    number = 2 if how.precision is Precision.BF16 else 4
    size = (train * settle_views(options) + val) * prod(parts.shape) * number
    return _choose(options, phase.name, size)


def settle_feature_cache(
    options: FinetuneOptions, dataset: Dataset, layers: FrozenLayers
) -> PhaseCache:
    """Where the features are kept that a classifier is fitted on.

    Raises:
        OptionError: When `--cache memory` or `disk` has no room.
    """
    if options.cache is Cache.OFF:
        return PhaseCache("features", Cache.OFF, why_not="--cache off")
    count = len(dataset.rows("train")) + len(dataset.rows("val"))
    return _choose(options, "features", count * layers.row_bytes)


def _choose(options: FinetuneOptions, phase: str, size: int) -> PhaseCache:
    disk = min(int(options.cache_limit * _GB), _free_disk() // 2)
    room = {Cache.DISK: disk, Cache.MEMORY: memory_budget()}
    if options.cache is not Cache.AUTO:
        if size > room[options.cache]:
            raise OptionError(
                f"--cache {options.cache}: {phase} needs {describe_size(size)}, and there is room "
                f"for {describe_size(room[options.cache])}; take fewer --views, a higher "
                "--cache-limit, or auto"
            )
        return PhaseCache(phase, options.cache, size)
    fitting = next((cache for cache in room if size <= room[cache]), None)
    if fitting is None:
        return PhaseCache(phase, Cache.OFF, why_not=f"it would take {describe_size(size)}")
    return PhaseCache(phase, fitting, size)


def _free_disk() -> int:
    folder: Path = cache_folder()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def describe_size(size: int) -> str:
    """Bytes for people: 1.2 MB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
