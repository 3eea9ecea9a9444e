"""What trackers record of a run: the same names and values in each."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from transferkit.reporter import EpochRow, RunStart, StepRow

EPOCH, STEP, FINAL = "epoch", "step", "final"
"""What the names of figures begin with: those of an epoch, of a step, and of the finished run."""

Parameter = bool | int | float | str
"""The value of a parameter."""

_NOT_FINAL = ("per_class", "answering", "by_phase")
"""Parts of metrics.json that are tables, not figures of the run."""


def epoch_figures(row: EpochRow) -> dict[str, float]:
    """Return the figures of an epoch by the names that they have in history.csv.

    >>> row = EpochRow(1, "head", 0.5, 0.8, 0.6, 0.7, 0.01, 0.0, 2.0)
    >>> epoch_figures(row)["epoch/val_accuracy"]
    0.7
    """
    columns = asdict(row)
    del columns["epoch"], columns["phase"]
    return {f"{EPOCH}/{name}": value for name, value in columns.items()}


def step_figures(row: StepRow) -> dict[str, float]:
    """Return the loss of a step, and the learning rate of every stage that it trained.

    >>> step_figures(StepRow(1, 1, 0.5, {"head": 0.01}))
    {'step/loss': 0.5, 'step/lr/head': 0.01}
    """
    rates = {f"{STEP}/lr/{stage}": rate for stage, rate in row.learning_rates.items()}
    return {f"{STEP}/loss": row.loss, **rates}


def final_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers in the content of metrics.json, without tables such as those by class.

    >>> final_figures({"val": {"accuracy": 0.9, "per_class": {}}, "seconds": 4})
    {'final/val/accuracy': 0.9, 'final/seconds': 4.0}
    """
    return dict(_numbers(metrics, FINAL))


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and name not in _NOT_FINAL:
            yield from _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}/{name}", float(value)


def parameters(start: RunStart) -> dict[str, Parameter]:
    """Return the options of a run, and what its plan decided: settings, rates, phases, images."""
    plan = start.plan
    options = {
        name: value if isinstance(value, Parameter) else str(value)
        for name, value in start.options.items()
        if value is not None
    }
    decided: dict[str, Parameter] = dict(plan.settings)
    decided |= {
        f"lr/{stage.name}": stage.learning_rate
        for stage in plan.stages
        if stage.learning_rate is not None
    }
    for number, phase in enumerate(plan.phases, start=1):
        decided[f"phase {number}"] = f"{phase.name}, epochs {phase.epochs[0]} to {phase.epochs[1]}"
    decided["classes"] = len(plan.classes)
    for number, part in enumerate(("train", "val", "test")):
        decided[f"{part} images"] = sum(counts[number] for counts in plan.classes.values())
    return options | {f"plan/{name}": value for name, value in decided.items()}
