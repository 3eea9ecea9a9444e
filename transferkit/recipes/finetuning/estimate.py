"""Estimate how long a run and other strategies take, from a few timed batches."""

from dataclasses import replace

from transferkit.compute import ComputeSettings
from transferkit.devices import Cache
from transferkit.engines import Engine
from transferkit.forward_pass import Computation, logits_of, prefix_of
from transferkit.models.network import Network
from transferkit.models.network_cut import cut_network
from transferkit.models.strategies import HeadStart, Phase
from transferkit.models.unfreeze import EVERYTHING, HEAD_ALONE, last_stages
from transferkit.recipes.finetuning.pace import Pace
from transferkit.recipes.finetuning.run_in_progress import TrainingRun
from transferkit.recipes.finetuning.settings import PhaseSettings
from transferkit.recipes.finetuning.start_head import MOST
from transferkit.recipes.shared.caches import CacheChoice

_SOON = 20.0
"""A run shorter than this ends before anyone would choose another strategy, in seconds."""

_OTHERS = {"head": HEAD_ALONE, "last:1": last_stages(1), "full": EVERYTHING}


def estimate_seconds(run: TrainingRun) -> tuple[tuple[str, float], ...]:
    """Return (what, seconds) of this run, followed by other strategies unless the run is short.

    A run within a budget was estimated when it was chosen.

    Rows that earlier runs cached are not deducted. The network is left in eval mode, with some of
    its parameters frozen. Nothing draws from a random generator.
    """
    if run.budget:
        return (("this run", run.budget.estimate),)
    pace = pace_of(run)
    images = len(run.dataset.rows("train")), len(run.dataset.rows("val"))
    check = sum(images) * pace.decode  # the check decodes every image once
    # All processes measure at the same time, and each computes an equal part.
    count = run.processes.count
    own = (check + training_seconds(run, pace, run.options.epochs)) / count
    estimates = [("this run", own)]
    if own > _SOON or run.options.dry_run:
        epochs = range(1, run.options.epochs + 1)
        for name, unfreeze in _OTHERS.items():
            entry = _cached_phase(run.network, Phase.of(run.network, unfreeze, epochs))
            estimates.append((name, (check + _phase_seconds(run, pace, entry)) / count))
    return tuple(estimates)


def pace_of(run: TrainingRun) -> Pace:
    """Measure the pace of a run's network, decoding and frozen part."""
    return Pace(run.dataset, *_passes(run))


def training_seconds(run: TrainingRun, pace: Pace, epochs: int) -> float:
    """Return the seconds that the start of the head and the first `epochs` of a run take."""
    begun = [entry for entry in run.settings.phases if entry.phase.epochs.start <= epochs]
    decodes_anew = run.settings.pixel_cache is Cache.OFF
    return _start_seconds(pace, run) + sum(
        _phase_seconds(run, pace, _shortened(entry, epochs), decodes_anew=decodes_anew)
        for entry in begun
    )


def _shortened(entry: PhaseSettings, last: int) -> PhaseSettings:
    """Return a phase that ends with epoch `last`, if it would end later."""
    epochs = range(entry.phase.epochs.start, min(entry.phase.epochs.stop, last + 1))
    return replace(entry, phase=replace(entry.phase, epochs=epochs))


def _start_seconds(pace: Pace, run: TrainingRun) -> float:
    """Return the seconds of the pass that a linear start of the head takes."""
    if run.settings.head_start is HeadStart.RANDOM:
        return 0.0
    return min(len(run.dataset.rows("train")), MOST) * (pace.decode + pace.forward)


def _passes(run: TrainingRun) -> tuple[Computation, ComputeSettings]:
    """Return what the last phase computes without gradient, and how; else all layers."""
    last = run.settings.phases[-1]
    if last.cut is None:
        return logits_of(run.network), replace(run.compute, engine=Engine.TORCH)
    return prefix_of(run.network, last.cut), replace(run.compute, engine=last.engine)


def _cached_phase(network: Network, phase: Phase) -> PhaseSettings:
    """Return a phase that reads one view of its images, cached if layers are frozen."""
    cut = cut_network(network, phase.parameters) if phase.freezes_anything else None
    place = Cache.MEMORY if phase.freezes_anything else Cache.OFF
    return PhaseSettings(phase, 1, cut, Engine.TORCH, CacheChoice(place))


def _phase_seconds(
    run: TrainingRun, pace: Pace, entry: PhaseSettings, *, decodes_anew: bool = False
) -> float:
    phase = entry.phase
    train, val = len(run.dataset.rows("train")), len(run.dataset.rows("val"))
    epochs, step = len(phase.epochs), pace.step(phase, entry.cut)
    trained = epochs * (train + val / 3) * step  # validation is a forward pass, a third of a step
    if not phase.freezes_anything:
        decoded = epochs if decodes_anew else 1
        return trained + decoded * (train + val) * pace.decode
    read = pace.decode + pace.forward
    if entry.cache.place is Cache.OFF:
        return trained + epochs * (train + val) * read
    passes = min(entry.views, epochs) if entry.views else epochs
    return trained + (passes * train + val) * read
