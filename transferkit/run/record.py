"""The records in a run's folder: written while it runs, read back once it is finished."""

import csv
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from importlib.metadata import version
from typing import Any

from transferkit import __version__
from transferkit.data.split_file import recorded_digests
from transferkit.errors import BundleError, DataError
from transferkit.files import write_json
from transferkit.places import Place, place
from transferkit.reporter import EpochRow, LeftOut, PhaseRow, Plan, StageRow
from transferkit.run.folder import (
    HISTORY,
    METRICS,
    OPTIONS,
    PLAN,
    SPLIT,
    VAL_PREDICTIONS,
)
from transferkit.tables import finite_cells, write_csv
from transferkit.tables.probabilities import ProbabilityTable, read_probabilities

_PACKAGES = ("torch", "torchvision", "timm", "pillow", "numpy", "scikit-learn", "skops")


@dataclass(frozen=True)
class RunRecord:
    """A finished run without its model.

    Attributes:
        options: The content of options.json.
        metrics: The content of metrics.json.
        plan: The plan made before training.
        history: One row per epoch; empty where a classifier was fitted.
        predictions: The model's probabilities for the validation images.
        sha256: Path -> digest of every image.
    """

    options: Mapping[str, Any]
    metrics: Mapping[str, Any]
    plan: Plan
    history: tuple[EpochRow, ...]
    predictions: ProbabilityTable
    sha256: Mapping[str, str]


def read_run(run: Place) -> RunRecord:
    """Read everything in a finished run's folder except its model.

    Raises:
        BundleError: When it is not a finished run, is damaged, or was left by an earlier version.
    """
    if not (run / METRICS).is_file():
        what = f"not a finished run, it has no {METRICS}" if run.exists() else "no such run"
        raise BundleError(f"{run}: {what}; expected the folder that finetune wrote")
    for name in (OPTIONS, PLAN, SPLIT, VAL_PREDICTIONS):
        if not (run / name).is_file():
            raise BundleError(
                f"{run}: has no {name}, which earlier versions did not write; train it again"
            )
    try:
        return RunRecord(
            options=read_options(run),
            metrics=read_metrics(run),
            plan=_read_plan(run),
            history=read_history(run),
            predictions=read_probabilities(run / VAL_PREDICTIONS),
            sha256=recorded_digests(run / SPLIT),
        )
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise BundleError(f"{run}: is damaged ({error}); train it again") from error


def read_options(run: Place) -> dict[str, Any]:
    """Read options.json of a run.

    Raises:
        BundleError: When it is damaged.
    """
    return _read_table(run / OPTIONS, ("data", "output", "strategy", "weights", "versions"))


def read_metrics(run: Place) -> dict[str, Any]:
    """Read metrics.json of a run.

    Raises:
        BundleError: When it is damaged.
    """
    return _read_table(run / METRICS, ("val", "majority_baseline"))


def _read_table(path: Place, expected: Sequence[str]) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: is damaged ({error}); train it again") from error
    if not isinstance(table, dict):
        raise BundleError(f"{path}: is damaged, expected a table; train it again")
    if missing := [name for name in expected if name not in table]:
        raise BundleError(f"{path}: is damaged, it has no {missing[0]}; train it again")
    return table


def place_of_images(options: Mapping[str, Any]) -> Place:
    """Return the dataset of a run; for a table with a folder of images elsewhere, that folder.

    Args:
        options: The content of options.json.
    """
    return place(str(options.get("root") or options.get("data")))


def write_plan(run: Place, plan: Plan) -> None:
    """Write plan.json.

    Raises:
        OutputError: When it cannot be written.
    """
    write_json(run / PLAN, asdict(plan))


def _read_plan(run: Place) -> Plan:
    content = json.loads((run / PLAN).read_text("utf-8"))
    return Plan(
        settings=tuple((name, value) for name, value in content["settings"]),
        classes={
            name: (train, val, test) for name, (train, val, test) in content["classes"].items()
        },
        left_out=tuple(LeftOut(**item) for item in content["left_out"]),
        stages=tuple(
            StageRow(**{**row, "modules": tuple(row["modules"])}) for row in content["stages"]
        ),
        phases=tuple(
            PhaseRow(**{**row, "epochs": tuple(row["epochs"])}) for row in content["phases"]
        ),
        seconds=tuple((what, value) for what, value in content["seconds"]),
    )


def write_history(run: Place, history: Sequence[EpochRow]) -> None:
    """Write history.csv, one row per epoch; a number that is not finite leaves its cell empty.

    Raises:
        OutputError: When it cannot be written.
    """
    columns = [entry.name for entry in fields(EpochRow)]
    write_csv(run / HISTORY, columns, (finite_cells(astuple(row)) for row in history))


def read_history(run: Place) -> tuple[EpochRow, ...]:
    """Read the epochs of a run, finished or not; empty where there is no history.csv.

    Raises:
        OSError: When it cannot be read.
        ValueError: When it is damaged.
        KeyError: When it lacks a column.
    """
    path = run / HISTORY
    if not path.is_file():
        return ()
    kinds: dict[str, Any] = {entry.name: entry.type for entry in fields(EpochRow)}
    with path.open(encoding="utf-8", newline="") as lines:
        return tuple(
            EpochRow(**{name: kind(row[name] or "nan") for name, kind in kinds.items()})
            for row in csv.DictReader(lines, strict=True)
        )


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a run's results depend on."""
    found = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "transferkit": __version__, **found}
