"""A run in progress: what its steps share, and how its model does on the validation images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transferkit.data.dataset import Dataset
from transferkit.errors import DataError, name_some
from transferkit.inference import Collected, Pass, collect, probabilities
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


def validation(work: Work) -> Collected:
    """Class probabilities of the validation images, in the order of the dataset.

    Raises:
        DataError: When an image can no longer be read.
    """
    rows, everything = work.dataset.rows("val"), work.dataset.index.files
    files = [everything[i] for i in rows]
    with work.reporter.progress("validating", len(files)) as progress:
        parts = probabilities(work.network, files, work.how)
        val = collect(parts, len(files), work.network.num_classes, progress.advance)
    require_all_readable(work.dataset, [(int(rows[row]), why) for row, why in val.reasons.items()])
    return val


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
