"""What the folder of a finished run says of it, read back."""

import csv
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transferkit.data.split_file import recorded_digests
from transferkit.errors import BundleError, DataError
from transferkit.files import write_json
from transferkit.reporting import EpochRow, LeftOut, PhaseRow, Plan, StageRow
from transferkit.run.folder import (
    HISTORY,
    METRICS,
    OPTIONS,
    PLAN,
    SPLIT,
    VAL_PREDICTIONS,
)
from transferkit.tables import write_csv
from transferkit.tables.probabilities import ProbabilityTable, read_probabilities


@dataclass(frozen=True)
class RunRecord:
    """A finished run without its model.

    Attributes:
        options: The content of options.json.
        metrics: The content of metrics.json.
        plan: What was decided before training.
        history: One row an epoch; none where a classifier was fitted.
        predictions: What the model says of the validation images.
        sha256: Path -> digest of every image.
    """

    options: Mapping[str, Any]
    metrics: Mapping[str, Any]
    plan: Plan
    history: tuple[EpochRow, ...]
    predictions: ProbabilityTable
    sha256: Mapping[str, str]


def read_run(run: Path) -> RunRecord:
    """Read all of a finished run but its model.

    Raises:
        BundleError: When it is no finished run, is damaged, or was left by an earlier version.
    """
    if not (run / METRICS).is_file():
        what = "no such run" if not run.exists() else f"no finished run, it has no {METRICS}"
        raise BundleError(f"{run}: {what}; expected the folder that finetune wrote")
    for name in (OPTIONS, PLAN, SPLIT, VAL_PREDICTIONS):
        if not (run / name).is_file():
            raise BundleError(
                f"{run}: has no {name}, which runs of earlier versions lack; train it again for a "
                "report"
            )
    try:
        return RunRecord(
            options=json.loads((run / OPTIONS).read_text("utf-8")),
            metrics=json.loads((run / METRICS).read_text("utf-8")),
            plan=_plan(json.loads((run / PLAN).read_text("utf-8"))),
            history=read_history(run),
            predictions=read_probabilities(run / VAL_PREDICTIONS),
            sha256=recorded_digests(run / SPLIT),
        )
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise BundleError(f"{run}: is damaged ({error}); train it again for a report") from error


def write_plan(run: Path, plan: Plan) -> None:
    """Write plan.json.

    Raises:
        OutputError: When it cannot be written.
    """
    write_json(run / PLAN, asdict(plan))


def _plan(told: Mapping[str, Any]) -> Plan:
    return Plan(
        settings=tuple((name, value) for name, value in told["settings"]),
        classes={name: (train, val, test) for name, (train, val, test) in told["classes"].items()},
        left_out=tuple(LeftOut(**item) for item in told["left_out"]),
        stages=tuple(
            StageRow(**{**row, "modules": tuple(row["modules"])}) for row in told["stages"]
        ),
        phases=tuple(PhaseRow(**{**row, "epochs": tuple(row["epochs"])}) for row in told["phases"]),
        seconds=tuple((what, value) for what, value in told["seconds"]),
    )


def read_history(run: Path) -> tuple[EpochRow, ...]:
    """The epochs of a run, also of one that was stopped; none where there is no history.csv.

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
            EpochRow(**{name: kind(row[name]) for name, kind in kinds.items()})
            for row in csv.DictReader(lines, strict=True)
        )


def write_history(run: Path, history: Sequence[EpochRow]) -> None:
    """Write history.csv, a row an epoch.

    Raises:
        OutputError: When it cannot be written.
    """
    columns = [entry.name for entry in fields(EpochRow)]
    write_csv(run / HISTORY, columns, (astuple(row) for row in history))


_PACKAGES = (
    *("transferkit", "torch", "torchvision", "timm", "pillow", "numpy"),
    *("scikit-learn", "skops"),
)


def package_versions() -> dict[str, str]:
    """Of Python and of the packages that a run's numbers depend on."""
    found = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}
