"""The page of a run, from plain data: nothing is read or computed by a network here."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.metrics import confusion, reliability
from transferkit.report.charts import COLOURS, Chart, Series, line_chart, reliability_chart
from transferkit.report.feature_map import (
    HEIGHT,
    OTHER,
    WIDTH,
    FeatureMap,
    class_marks,
    place_points,
)
from transferkit.report.mistakes import describe_confusion
from transferkit.report.page import render
from transferkit.reporting import EpochRow, Plan

_TRAIN, _VAL, _BASELINE = COLOURS[0], COLOURS[1], "--s8"
_SHOWN_CLASSES = 30
"""So many classes are listed at once; of more the weakest, and the rest where it is asked for."""

_SHOWN_LEFT_OUT, _SHOWN_SETTINGS = 20, 8


@dataclass(frozen=True)
class ShownImage:
    """A validation image on the page.

    Attributes:
        path: Relative to the dataset.
        label: Its class in the dataset.
        suggested: The class that the model has for it.
        confidence: That class's probability.
        label_probability: Its label's probability.
        picture: A `data:` address; None where it cannot be shown.
        evidence: Likewise, where the evidence for `suggested` lies.
    """

    path: str
    label: str
    suggested: str
    confidence: float
    label_probability: float
    picture: str | None = None
    evidence: str | None = None


@dataclass(frozen=True, eq=False)
class RunReport:
    """What the page of a run shows.

    Attributes:
        run: Its folder, as it was given.
        data: The dataset's folder, as it was given.
        options: The content of options.json.
        metrics: The content of metrics.json.
        plan: What was decided before training.
        history: One row an epoch; none where a classifier was fitted.
        names: C classes.
        paths: N validation images.
        labels: (N,) int64.
        probabilities: (N, C) float32.
        mistakes: The most confident ones, the most confident first.
        mistaken: How many there are.
        suspects: Likely label errors, the most likely first.
        suspected: How many there are.
        feature_map: Some of the images on a plane.
        notes: Why something is missing: `pictures`, `evidence`, `map`.
    """

    run: str
    data: str
    options: Mapping[str, Any]
    metrics: Mapping[str, Any]
    plan: Plan
    history: Sequence[EpochRow]
    names: Sequence[str]
    paths: Sequence[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    mistakes: Sequence[ShownImage]
    mistaken: int
    suspects: Sequence[ShownImage]
    suspected: int
    feature_map: FeatureMap | None
    notes: Mapping[str, str]


def run_page(report: RunReport) -> str:
    """The HTML of a run's page: one file that loads nothing and runs nothing."""
    counts = confusion(report.labels, report.probabilities)
    return render(
        "run.html",
        report=report,
        val=report.metrics["val"],
        explained=any(one.evidence for one in report.mistakes),
        settings=dict(report.plan.settings),
        totals=[sum(row[i] for row in report.plan.classes.values()) for i in range(3)],
        majority=_majority(report.plan),
        classes=_class_rows(report),
        shown_classes=_SHOWN_CLASSES,
        weakest=_weakest(report),
        confusion=describe_confusion(counts, report.names),
        curves=_curves(report),
        calibration=_calibration(report),
        map=_map(report, counts),
        fitted=_fitted(report.metrics),
        left_out=report.plan.left_out,
        shown_left_out=_SHOWN_LEFT_OUT,
        times=_times(report.metrics),
        quoted_run=shlex.quote(report.run),
        python_run=repr(report.run),
    )


def _majority(plan: Plan) -> str:
    """The class with the most training images, of equals the first."""
    return max(plan.classes, key=lambda name: plan.classes[name][0])


def _class_rows(report: RunReport) -> list[dict[str, Any]]:
    measured = report.metrics["val"]["per_class"]
    return [
        {"name": name, "counts": counts, **measured.get(name, {"n": 0})}
        for name, counts in report.plan.classes.items()
    ]


def _weakest(report: RunReport) -> list[dict[str, Any]]:
    """The classes with the lowest f1, where there are too many to list."""
    rows = [row for row in _class_rows(report) if row["n"]]
    if len(report.names) <= _SHOWN_CLASSES:
        return []
    return sorted(rows, key=lambda row: (row["f1"], row["name"]))[: _SHOWN_CLASSES // 2]


def _curves(report: RunReport) -> list[tuple[str, Chart]]:
    """Loss, accuracy and rates by epoch; none where no epoch was trained."""
    rows = report.history
    if not rows:
        return []
    epochs = [row.epoch for row in rows]
    common: dict[str, Any] = {"x_label": "epoch", "whole_x": True, "spans": _phases(rows)}

    def values(name: str) -> list[float]:
        return [getattr(row, name) for row in rows]

    loss = line_chart(
        [
            Series("training", epochs, values("train_loss"), _TRAIN),
            Series("validation", epochs, values("val_loss"), _VAL),
        ],
        y_label="loss (nats)",
        alt="Training and validation loss by epoch",
        **common,
    )
    baseline = report.metrics["majority_baseline"]
    accuracy = line_chart(
        [
            Series("training", epochs, values("train_accuracy"), _TRAIN),
            Series("validation", epochs, values("val_accuracy"), _VAL),
            Series("most frequent class", epochs, [baseline] * len(rows), _BASELINE, "dashed"),
        ],
        y_label="accuracy",
        alt="Training and validation accuracy by epoch",
        share=True,
        **common,
    )
    rates = [Series("head", epochs, values("lr_head"), COLOURS[2])]
    backbone = [rate or math.nan for rate in values("lr_backbone")]
    if any(rate > 0 for rate in backbone):
        rates.append(Series("last backbone stage", epochs, backbone, COLOURS[3]))
    rate = line_chart(
        rates,
        y_label="learning rate",
        alt="Learning rates at the end of each epoch",
        log_y=True,
        **common,
    )
    return [("Loss", loss), ("Accuracy", accuracy), ("Learning rates", rate)]


def _phases(rows: Sequence[EpochRow]) -> list[tuple[float, float, str]]:
    """(first, last, name) of each phase, half an epoch around its epochs."""
    spans: list[tuple[float, float, str]] = []
    for row in rows:
        if spans and spans[-1][2] == row.phase:
            spans[-1] = (spans[-1][0], row.epoch + 0.5, row.phase)
        else:
            spans.append((row.epoch - 0.5, row.epoch + 0.5, row.phase))
    return spans


def _calibration(report: RunReport) -> Chart:
    bins = reliability(report.labels, report.probabilities)
    return reliability_chart(bins, alt="Accuracy against confidence in 15 bins")


def _map(report: RunReport, counts: NDArray[np.int64]) -> dict[str, Any] | None:
    drawn = report.feature_map
    if drawn is None:
        return None
    wrong = counts.sum(axis=1) + counts.sum(axis=0) - 2 * counts.diagonal()
    marks = class_marks(report.names, wrong)
    predicted = report.probabilities.argmax(axis=1)
    points = place_points(drawn, marks, report.labels, predicted, report.names, report.paths)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "points": points,
        "marks": [*marks.values(), *([OTHER] if len(marks) < len(report.names) else [])],
        "explained": sum(drawn.explained),
    }


def _fitted(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings that a classifier was chosen from, the best first."""
    if "classifier" not in metrics:
        return None
    told = metrics["classifier"]
    tried = sorted(told["cross_validation"]["tried"], key=lambda one: -one["accuracy"])
    rows = [
        {
            "settings": ", ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in one.items()
                if key != "accuracy"
            ),
            "accuracy": one["accuracy"],
            "chosen": {k: v for k, v in one.items() if k != "accuracy"} == told["settings"],
        }
        for one in tried
    ]
    rows.sort(key=lambda row: not row["chosen"])
    return {**told, "rows": rows[:_SHOWN_SETTINGS], "more": max(len(rows) - _SHOWN_SETTINGS, 0)}


def _times(metrics: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """(what, seconds, share), the longest first; the page itself is not among them."""
    parts = {k: v for k, v in metrics["time"].items() if k != "report" and v >= 0.05}
    total = sum(parts.values()) or 1.0
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return [(name.replace("_", " "), value, value / total) for name, value in ordered]
