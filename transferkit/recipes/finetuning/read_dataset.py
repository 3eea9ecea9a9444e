"""Read a run's dataset: which images there are, which of them are sound, which are held out."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Self

from transferkit.data.bad_images import require_allowed
from transferkit.data.check import check_images
from transferkit.data.copies import number_copies
from transferkit.data.dataset import Dataset
from transferkit.data.index import scan
from transferkit.data.split import assign_splits
from transferkit.data.split_file import recorded_splits
from transferkit.devices import Cache, default_workers
from transferkit.errors import DataError, name_some
from transferkit.options.finetune import FinetuneOptions
from transferkit.reporting import Reporter


class DatasetReading:
    """A dataset that is read in a thread while the block does something else.

    Importing what trains takes seconds of one core; the others can decode meanwhile. Leaving the
    block stops a reading that nobody waited for.

    Args:
        options: Which dataset, and how it is divided.
        reporter: Told of the progress, from the thread.
    """

    def __init__(self, options: FinetuneOptions, reporter: Reporter) -> None:
        self._options, self._reporter = options, reporter
        self._stop = Event()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._reading: Future[Dataset] = self._pool.submit(
            read_dataset, self._options, self._reporter, self._stop
        )
        return self

    def result(self) -> Dataset:
        """Wait for the dataset; raises what `read_dataset` raises."""
        return self._reading.result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._pool.shutdown()


def read_dataset(
    options: FinetuneOptions, reporter: Reporter, stop: Event | None = None
) -> Dataset:
    """Scan a dataset's folders, decode each image once, and divide it.

    Args:
        options: Which dataset, and how it is divided.
        reporter: Told of the progress, and of copies that stand on both sides of a given split.
        stop: Ends the reading early once it is set.

    Raises:
        DataError: When the dataset cannot be used.
    """
    index = scan(options.data)
    if options.val:
        index = index.with_validation(scan(options.val))
    checked = check_images(
        index,
        workers=options.workers or default_workers(),
        reporter=reporter,
        remember=options.cache not in (Cache.MEMORY, Cache.OFF),
        allow_truncated=options.allow_truncated,
        stop=stop,
    )
    index = checked.index
    require_allowed(index.root, index.left_out, options.on_bad_image)
    split = options.output if options.resume else options.split
    known = recorded_splits(split, index, checked.sha256) if split else None
    if options.resume and known is not None and len(known) < len(index):
        new = [path for row, path in enumerate(index.paths) if row not in known]
        raise DataError(
            f"{index.root}: {len(new)} images are new since the run began: {name_some(new)}; put "
            "them elsewhere until it has come to its end, or start over with --overwrite"
        )
    copies = number_copies(checked.sha256, checked.signatures)
    splits = assign_splits(
        index,
        checked.sha256,
        copies,
        val_fraction=options.val_fraction,
        seed=options.seed,
        known=known,
    )
    dataset = Dataset(index, checked.sha256, copies, splits)
    if shared := dataset.leaked():
        reporter.notice(
            f"{len(shared)} images stand in training and in validation or test, so that the "
            f"accuracy will flatter: {name_some(shared)}"
        )
    return dataset


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
