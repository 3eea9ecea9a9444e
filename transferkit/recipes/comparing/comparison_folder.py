"""The folder of a comparison: its files, and what is read from them to resume it."""

import json
from pathlib import Path
from typing import Any

from transferkit.data.dataset import Dataset
from transferkit.data.split_file import write_split
from transferkit.errors import DataError, OutputError
from transferkit.files import write_json
from transferkit.options.compare import CompareOptions
from transferkit.options.recorded import GIVEN, given_options, read_recorded, resumed
from transferkit.run.folder import LOGS, SPLIT, Contents
from transferkit.run.record import package_versions

OPTIONS, RUNS, TABLE, FIGURES, PAGE = (
    "compare-options.json", "runs", "compare.csv", "compare.json", "compare.html",
)  # fmt: skip

COMPARISON = Contents(OPTIONS, (OPTIONS, SPLIT, RUNS, TABLE, FIGURES, PAGE, LOGS))


def write_setup(folder: Path, options: CompareOptions, dataset: Dataset) -> None:
    """Write the options of the comparison, and the split that all runs use.

    Raises:
        OutputError: When they cannot be written.
    """
    write_json(
        folder / OPTIONS,
        {
            "data": str(options.data),
            GIVEN: given_options(options),
            "versions": package_versions(),
            "data_sha256": dataset.digest(),
        },
    )
    write_split(folder, dataset)


def resumed_options(options: CompareOptions) -> CompareOptions:
    """Return the options of the comparison that `options` resume.

    `--seeds` may be higher than in the first call.

    Raises:
        OutputError: When there is no such comparison.
        OptionError: When another option differs from the first call.
    """
    folder = options.output
    assert folder is not None
    given = dict(_recorded(folder)[GIVEN])
    if options.seeds != CompareOptions.seeds:
        given["seeds"] = options.seeds
    return resumed(options, given, folder)


def require_same_data(folder: Path, dataset: Dataset) -> None:
    """Check that a resumed comparison still has the same images.

    Raises:
        DataError: When the images have changed.
        OutputError: When the comparison's options cannot be read.
    """
    if _recorded(folder)["data_sha256"] != dataset.digest():
        raise DataError(
            f"{dataset.index.root}: the images have changed since the comparison in {folder} "
            "began; restore them, or start over with --overwrite"
        )


def failed_before(folder: Path) -> set[str]:
    """Return the names of the runs that failed when the comparison last ran."""
    try:
        figures = json.loads((folder / FIGURES).read_text("utf-8"))
        return {run["run"] for run in figures["runs"] if run["state"] == "failed"}
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # it was stopped before it wrote its figures


def _recorded(folder: Path) -> dict[str, Any]:
    path = folder / OPTIONS
    if not (path.is_file() and (folder / SPLIT).is_file()):
        raise OutputError(
            f"{folder}: nothing to resume, it has no {OPTIONS} and {SPLIT}; name the --output of a "
            "comparison that was stopped, or leave out --resume to start one"
        )
    recorded = read_recorded(path, CompareOptions)
    if "data_sha256" not in recorded:
        raise OutputError(
            f"{path}: is damaged, it has no digest of the data; start over with --overwrite"
        )
    return recorded
