"""Read the dataset of an audit: find the images, check them, and find copies and groups."""

from transferkit.data.bad_images import require_allowed
from transferkit.data.check import check_images
from transferkit.data.copies import number_copies
from transferkit.data.dataset import Dataset
from transferkit.data.image_measures import ImageMeasures, measure_images
from transferkit.devices import Cache
from transferkit.options.audit import AuditOptions
from transferkit.recipes.shared.inputs import find_groups, find_images, reading_threads, tell_layout
from transferkit.reporter import Reporter


def read_images(options: AuditOptions, reporter: Reporter) -> Dataset:
    """Scan a dataset's folders and decode each image once.

    Unlike a run's dataset it is not divided: without parts that folders name, all images are for
    training.

    Raises:
        DataError: When the dataset cannot be used.
    """
    found = find_images(options, options.data, options.grouped_reading)
    tell_layout(found, reporter)
    group_of = find_groups(options, found)
    checked = check_images(
        found,
        workers=reading_threads(options),
        reporter=reporter,
        remember=_remembers(options),
        allow_truncated=options.allow_truncated,
    )
    index = checked.index
    require_allowed(index.root, index.left_out, options.on_bad_image)
    return Dataset(
        index,
        checked.sha256,
        number_copies(checked.sha256, checked.signatures),
        tuple(name or "train" for name in index.splits),  # type: ignore[misc]
        tuple(group_of[path] for path in index.paths) if group_of else (),
    )


def measure_dataset(options: AuditOptions, dataset: Dataset, reporter: Reporter) -> ImageMeasures:
    """Return the measures of a dataset's N images."""
    return measure_images(
        dataset.index.files,
        dataset.sha256,
        workers=reading_threads(options),
        reporter=reporter,
        remember=_remembers(options),
        allow_truncated=options.allow_truncated,
    )


def _remembers(options: AuditOptions) -> bool:
    return options.cache not in (Cache.MEMORY, Cache.OFF)
