"""A run in progress: what its steps share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transferkit.data.dataset import Dataset
from transferkit.errors import DataError, name_some
from transferkit.inference import Pass
from transferkit.models.network import Network
from transferkit.models.phases import Phase
from transferkit.recipes.caching import PhaseCache
from transferkit.recipes.finetune_options import FinetuneOptions
from transferkit.reporting import Reporter


@dataclass(frozen=True)
class Work:
    """What the steps of a run share."""

    options: FinetuneOptions
    dataset: Dataset
    network: Network
    phases: Sequence[Phase]
    caches: Sequence[PhaseCache]
    how: Pass
    reporter: Reporter


def require_all_readable(dataset: Dataset, failures: Iterable[tuple[int, str]]) -> None:
    """Check that a pass over a checked dataset met no unreadable image.

    Args:
        dataset: The dataset; all its images were read before training.
        failures: (position in the index, reason) of those that now could not be.

    Raises:
        DataError: When there are any: they have changed under our hands.
    """
    told = [f"{dataset.index.paths[row]} ({why})" for row, why in failures]
    if told:
        raise DataError(
            f"{dataset.index.root}: images changed during the run: {name_some(told)}; "
            "leave the dataset alone while it trains, and run again"
        )
