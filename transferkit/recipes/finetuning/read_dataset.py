"""Read a run's dataset: find the images, check them, and split them."""

from collections import Counter
from collections.abc import Mapping, Sequence

from transferkit.data.bad_images import require_allowed
from transferkit.data.check import CheckedIndex, check_images
from transferkit.data.copies import number_copies
from transferkit.data.dataset import Dataset
from transferkit.data.decisions import decided
from transferkit.data.groups import number_together
from transferkit.data.index import ImageIndex
from transferkit.data.scan import scan
from transferkit.data.split import Split, assign_splits
from transferkit.data.split_file import recorded_labels, recorded_splits
from transferkit.devices import Cache
from transferkit.errors import DataError, name_some
from transferkit.options.finetune import FinetuneOptions
from transferkit.places import Place
from transferkit.processes import ALONE, Processes
from transferkit.recipes.shared.inputs import find_groups, reading_threads
from transferkit.reporter import Reporter


def read_dataset(
    options: FinetuneOptions, reporter: Reporter, processes: Processes = ALONE
) -> Dataset:
    """Scan a dataset's folders, decode each image once, and split it.

    Args:
        options: The dataset, and how it is split.
        reporter: Receives the progress, and a notice of copies on both sides of a given split.
        processes: The processes among which decoding is divided; the first does the rest.

    Raises:
        DataError: When the dataset cannot be used.
    """
    found, group_of = processes.from_first(lambda: _scan(options))
    checked = check_images(
        found,
        workers=reading_threads(options),
        reporter=reporter,
        remember=options.cache not in (Cache.MEMORY, Cache.OFF),
        allow_truncated=options.allow_truncated,
        processes=processes,
    )
    dataset = processes.from_first(lambda: _divide(options, checked, group_of))
    _report_leaks(dataset, reporter)
    return dataset


def _scan(options: FinetuneOptions) -> tuple[ImageIndex, dict[str, str]]:
    """Return the images, and path -> group of each; no groups if none are named."""
    found = scan(options.data, options.layout, options.grouped_reading)
    if options.val:
        found = found.with_validation(scan(options.val, reading=options.grouped_reading))
    if options.decisions:
        found = decided(found, options.decisions)
    return found, find_groups(options, found)


def _divide(
    options: FinetuneOptions, checked: CheckedIndex, group_of: Mapping[str, str]
) -> Dataset:
    """Find copies among the checked images, and divide them into training and validation."""
    index = checked.index
    require_allowed(index.root, index.left_out, options.on_bad_image)
    copies = number_copies(checked.sha256, checked.signatures)
    groups = tuple(group_of[path] for path in index.paths) if group_of else ()
    splits = assign_splits(
        index,
        checked.sha256,
        copies,
        val_fraction=options.val_fraction,
        seed=options.seed,
        known=_recorded_splits(options, index, checked.sha256),
        together=number_together(copies, groups) if groups else None,
    )
    return Dataset(index, checked.sha256, copies, splits, groups)


def _report_leaks(dataset: Dataset, reporter: Reporter) -> None:
    """Report copies and groups on both sides of a split that was given."""
    if shared := dataset.leaked():
        reporter.notice(
            f"{len(shared)} images are in training and also in validation or test, which inflates "
            f"the accuracy: {name_some(shared)}"
        )
    if divided := dataset.divided_groups():
        counts = Counter(dataset.groups)
        count = sum(counts[group] for group in divided)
        reporter.notice(
            f"{len(divided)} of {len(set(dataset.groups))} groups, with {count} images, are on "
            f"several sides of the split that was given, which inflates the accuracy: "
            f"{name_some(divided)}"
        )


def _recorded_splits(
    options: FinetuneOptions, index: ImageIndex, digests: Sequence[str]
) -> dict[int, Split] | None:
    """Return the recorded split: that of --split, or of the run that is resumed."""
    file = options.output if options.resume else options.split
    if file is None:
        return None
    known = recorded_splits(file, index, digests)
    if options.resume and len(known) < len(index):
        new = [path for row, path in enumerate(index.paths) if row not in known]
        raise DataError(
            f"{index.root}: {len(new)} images are new since the run began: {name_some(new)}; put "
            "them elsewhere until the run is finished, or start over with --overwrite"
        )
    if options.resume:
        _require_same_labels(file, index)
    return known


def _require_same_labels(run: Place, index: ImageIndex) -> None:
    """Check that a resumed run's images have the labels that they had; a table may change them.

    Raises:
        DataError: When some have others.
    """
    before = recorded_labels(run)
    changed = [
        f"{path} ({before[path]}, now {index.class_names[label]})"
        for path, label in zip(index.paths, index.labels, strict=True)
        if index.class_names[label] != before[path]
    ]
    if changed:
        raise DataError(
            f"{index.root}: {len(changed)} labels have changed since the run began: "
            f"{name_some(changed)}; restore them, or start over with --overwrite"
        )
