"""The resolved settings of a run: one record for training, one for fitting a classifier.

The plan, the estimate and the files of a run are functions of these records. `resolve_settings.py`
creates them; no step after it sees an option that is still `auto` or unset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transferkit.compute import ComputeSettings
from transferkit.devices import Cache
from transferkit.engines import Engine
from transferkit.models.feature_extractor import FeatureExtractor
from transferkit.models.freezing import BatchNorm, freeze, train_mode
from transferkit.models.network import Network
from transferkit.models.network_cut import NetworkCut, cut_network
from transferkit.models.stages import Stage
from transferkit.models.strategies import HeadStart, Phase
from transferkit.recipes.shared.caches import CacheChoice
from transferkit.training.learning_rates import stage_rates


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of every strategy.

    Attributes:
        compute: Device, precision, batch size and threads.
        cache_limit: Bytes that all cached rows on disk may take together.
    """

    compute: ComputeSettings
    cache_limit: int

    def resolved_options(self) -> dict[str, Any]:
        """Return the resolved values of options that may be left open."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(RunSettings):
    """Settings of the strategy `features`.

    Attributes:
        extractor: Computes the features: network, layers and pooling.
        engine: What computes them; never `auto`.
        cache: Where the features are cached.
    """

    extractor: FeatureExtractor
    engine: Engine
    cache: CacheChoice

    def resolved_options(self) -> dict[str, Any]:
        """Return the resolved values of options that may be left open."""
        return {
            "layer": self.extractor.layers,
            "pool": self.extractor.pool,
            "engine": self.engine,
        }


@dataclass(frozen=True, eq=False)
class PhaseSettings:
    """A phase, and how it reads its images.

    Attributes:
        phase: Which parameters are trained in which epochs.
        views: Number of views of an image that take turns; 0 draws a new one every epoch.
        cut: The network, cut before its first trained layer; None if it cannot be cut.
        engine: What computes the frozen part; never `auto`.
        cache: Where the output of the frozen part is cached.
    """

    phase: Phase
    views: int
    cut: NetworkCut | None
    engine: Engine
    cache: CacheChoice


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(RunSettings):
    """Settings of the strategies that train the network.

    Attributes:
        phases: The phases in order, with how each reads its images.
        learning_rate: Peak rate of the head; (stem, head) if the rates are spread between them.
        learning_rates: Stage name -> its peak rate, frozen stages included.
        backbone_share: Rate of the last backbone stage as a share of the head's.
        layer_decay: Factor on the rate per stage towards the stem; None if rates are spread.
        rates_are_provisional: Whether a range test has yet to scale all rates.
        head_start: How the new head begins.
        head_epochs: Number of epochs at the start that train the head alone.
        epochs_per_thaw: For gradual, number of epochs before the next stage thaws.
        batch_norm: `eval` or `train`, for BatchNorm in trainable stages.
        views: Number of views of an image that take turns while layers are frozen; 0 draws a new
            one every epoch.
        pixel_cache: Where decoded pixels are cached.
    """

    phases: tuple[PhaseSettings, ...]
    learning_rate: float | tuple[float, float]
    learning_rates: Mapping[str, float]
    backbone_share: float
    layer_decay: float | None
    rates_are_provisional: bool
    head_start: HeadStart
    head_epochs: int
    epochs_per_thaw: int
    batch_norm: BatchNorm
    views: int
    pixel_cache: Cache

    @property
    def last_phase(self) -> Phase:
        """The phase that trains the most."""
        return self.phases[-1].phase

    @property
    def engine(self) -> Engine:
        """What computes the frozen parts, the same in all phases."""
        return next((entry.engine for entry in self.phases if entry.cut), Engine.TORCH)

    def of(self, phase: Phase) -> PhaseSettings:
        """Return how one of the phases reads its images."""
        return next(entry for entry in self.phases if entry.phase == phase)

    def with_learning_rate(self, rate: float) -> "TrainingSettings":
        """Return the settings with another rate of the head and all other rates in proportion."""
        assert self.layer_decay is not None  # a range test refuses rates that are spread
        stages, backbone_rate = list(self.learning_rates), rate * self.backbone_share
        rates = rates_of_stages(stages, rate, backbone_rate, self.layer_decay)
        return replace(self, learning_rate=rate, learning_rates=rates, rates_are_provisional=False)

    def for_copy(self, network: Network) -> "TrainingSettings":
        """Freeze a copy of the network for the last phase, and return that phase's settings."""
        last = self.phases[-1]
        freeze(network.module, last.phase.parameters)
        train_mode(network.module, self.batch_norm)
        cut = cut_network(network, last.phase.parameters) if last.cut else None
        return replace(self, phases=(replace(last, cut=cut),))

    def resolved_options(self) -> dict[str, Any]:
        """Return the resolved values of options that may be left open."""
        *_, last, head = self.learning_rates
        is_spread = isinstance(self.learning_rate, tuple)
        return {
            "learning_rate": self.learning_rate if is_spread else self.learning_rates[head],
            "backbone_learning_rate": None if is_spread else self.learning_rates[last],
            "layer_decay": self.layer_decay,
            "learning_rates": dict(self.learning_rates),
            "head_start": self.head_start,
            "freeze_epochs": self.head_epochs,
            "thaw_every": self.epochs_per_thaw,
            "bn": self.batch_norm,
            "engine": self.engine,
            "views": self.views,
        }


def rates_of_stages(
    stages: Sequence[str], head_rate: float, backbone_rate: float, decay: float
) -> dict[str, float]:
    """Return the peak rate of every stage; the last of `stages` is the head."""
    *backbone, head = stages
    return stage_rates(
        backbone, head, head_rate=head_rate, backbone_rate=backbone_rate, decay=decay
    )


def keeps_statistics(network: Network, stages: Sequence[Stage]) -> bool:
    """Return whether any layer in these stages keeps running statistics."""
    below = tuple(f"{module}." for stage in stages for module in stage.modules)
    buffers = (name for name, _ in network.module.named_buffers())
    return any(name.startswith(below) and "running_" in name for name in buffers)
