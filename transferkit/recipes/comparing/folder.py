"""The folder of a comparison: what is in it, and how it is gone on with."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from transferkit.data.dataset import Dataset
from transferkit.errors import DataError, OutputError
from transferkit.files import write_json
from transferkit.recipes.compare_options import CompareOptions
from transferkit.recipes.resuming import GIVEN, given_options, require_as_it_began
from transferkit.recipes.run_files import versions, write_split
from transferkit.recipes.run_folder import SPLIT, Contents

OPTIONS, RUNS, TABLE, FIGURES, PAGE = (
    "compare-options.json", "runs", "compare.csv", "compare.json", "compare.html",
)  # fmt: skip

COMPARISON = Contents(OPTIONS, (OPTIONS, SPLIT, RUNS, TABLE, FIGURES, PAGE))

_OF_THE_CALL = ("data", "output", "overwrite", "resume", "budget")
_FREE = ("workers", "cache", "cache_limit")
"""What changes nothing but the time."""


def write_beginning(folder: Path, options: CompareOptions, dataset: Dataset) -> None:
    """Write what the comparison begins with: its options, and the split that all runs replay.

    Raises:
        OutputError: When it cannot be written.
    """
    given = {name: value for name, value in given_options(options).items() if name != "budget"}
    write_json(
        folder / OPTIONS,
        {
            "data": str(options.data),
            GIVEN: {k: str(v) if isinstance(v, Path) else v for k, v in given.items()},
            "versions": versions(),
            "data_sha256": dataset.digest(),
        },
    )
    write_split(folder, dataset)


def resumed_comparison(options: CompareOptions) -> CompareOptions:
    """The options of the comparison that `options` want to go on with.

    More `--seeds` may be asked for than it began with.

    Raises:
        OutputError: When there is no such comparison.
        OptionError: When an option is given that it does not have.
    """
    folder = options.output
    assert folder is not None
    recorded = _recorded(folder)
    now = {name: getattr(options, name) for name in (*_OF_THE_CALL, *_FREE)}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in recorded[GIVEN].items()}
    if options.seeds != CompareOptions.seeds:
        given["seeds"] = options.seeds
    began = CompareOptions(**{**given, **now})
    require_as_it_began(options, began, folder)
    return began


def require_same_data(folder: Path, dataset: Dataset) -> None:
    """Check that a comparison that is gone on with has its images.

    Raises:
        DataError: When there are others now.
        OutputError: When its options cannot be read.
    """
    if _recorded(folder)["data_sha256"] != dataset.digest():
        raise DataError(
            f"{dataset.index.root}: the images are others than when the comparison in {folder} "
            "began; put them back, or begin anew with --overwrite"
        )


def failed_before(folder: Path) -> set[str]:
    """The names of the runs that failed when the comparison was last carried out."""
    try:
        told = json.loads((folder / FIGURES).read_text("utf-8"))
        return {run["run"] for run in told["runs"] if run["state"] == "failed"}
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # it was stopped before it had a table


def _recorded(folder: Path) -> dict[str, Any]:
    path = folder / OPTIONS
    if not (path.is_file() and (folder / SPLIT).is_file()):
        raise OutputError(
            f"{folder}: nothing to go on with, it has no {OPTIONS} and {SPLIT}; name the --output "
            "of a comparison that was stopped, or leave out --resume to begin one"
        )
    try:
        recorded = dict(json.loads(path.read_text("utf-8")))
        known = {entry.name for entry in fields(CompareOptions)} - set(_OF_THE_CALL)
        if not set(dict(recorded[GIVEN])) <= known or "data_sha256" not in recorded:
            raise ValueError("it has options that are not known")
        return recorded
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path}: is damaged, or of another version of transferkit ({error}); begin anew with "
            "--overwrite"
        ) from error
