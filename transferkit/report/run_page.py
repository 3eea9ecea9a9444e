"""The page of a run, rendered from plain data: reads no files and runs no network."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferkit.confidence import risk_coverage
from transferkit.metrics import DOUBT_FACTOR, confusion, reliability
from transferkit.report.charts import (
    COLOURS,
    Axis,
    Chart,
    Scale,
    Series,
    line_chart,
    reliability_chart,
)
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
from transferkit.reporter import EpochRow, Plan
from transferkit.tables.probabilities import ProbabilityTable

_TRAIN, _VAL, _BASELINE = COLOURS[0], COLOURS[1], "--s8"
_SHOWN_CLASSES = 30
"""With more classes than this, the page lists the weakest and folds the rest away."""

_SHOWN_SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5, 0.25)
"""Shares of answered images that the table of answers lists."""

_SHOWN_LEFT_OUT, _SHOWN_SETTINGS = 20, 8
_EPOCHS = Axis("epoch", Scale.INTEGER)


@dataclass(frozen=True)
class ShownImage:
    """A validation image on the page.

    Attributes:
        path: Path relative to the dataset.
        label: Its class in the dataset.
        suggested: The class that the model suggests.
        confidence: Probability of the suggested class.
        label_probability: Probability of the label.
        image: `data:` address of the image; None if it cannot be shown.
        evidence: `data:` address of the evidence for `suggested`; None if it cannot be shown.
        unusual_score: How unlike the other validation images it is; None if that is not shown.
    """

    path: str
    label: str
    suggested: str
    confidence: float
    label_probability: float
    image: str | None = None
    evidence: str | None = None
    unusual_score: float | None = None


@dataclass(frozen=True, eq=False)
class RunReport:
    """Everything that the page of a run shows.

    Attributes:
        run: The run's folder, as it was given.
        data: The dataset's folder, as it was given.
        options: The content of options.json.
        metrics: The content of metrics.json.
        plan: The plan made before training.
        history: One row per epoch; empty where a classifier was fitted.
        predictions: The model's probabilities for the validation images.
        mistakes: The most confident mistakes, most confident first.
        mistaken: Number of all mistakes.
        suspects: The most likely label errors, most likely first.
        suspected: Number of all likely label errors.
        unusual: The most unusual validation images, most unusual first.
        usual_threshold: The score above which images are unusual; None if that was not measured.
        feature_map: Some of the images on a plane; None if there are too few.
        notes: Reasons why something is missing, by `images`, `evidence` or `map`.
    """

    run: str
    data: str
    options: Mapping[str, Any]
    metrics: Mapping[str, Any]
    plan: Plan
    history: Sequence[EpochRow]
    predictions: ProbabilityTable
    mistakes: Sequence[ShownImage]
    mistaken: int
    suspects: Sequence[ShownImage]
    suspected: int
    unusual: Sequence[ShownImage]
    usual_threshold: float | None
    feature_map: FeatureMap | None
    notes: Mapping[str, str]


def run_page(report: RunReport) -> str:
    """Return the HTML of a run's page, self-contained and without scripts."""
    names = report.predictions.label_names
    counts = confusion(report.predictions.labels, report.predictions.probabilities)
    return render(
        "run.html",
        report=report,
        names=names,
        val=report.metrics["val"],
        explained=any(one.evidence for one in report.mistakes),
        doubt_factor=DOUBT_FACTOR,
        settings=dict(report.plan.settings),
        totals=[sum(row[i] for row in report.plan.classes.values()) for i in range(3)],
        majority=_majority(report.plan),
        classes=_class_rows(report),
        shown_classes=_SHOWN_CLASSES,
        weakest=_weakest(report),
        confusion=describe_confusion(counts, names),
        curves=_curves(report),
        calibration=_calibration(report),
        calibrated=report.metrics.get("calibration"),
        answering=_answering(report),
        map=_map(report, counts),
        fitted=_fitted(report.metrics),
        left_out=report.plan.left_out,
        shown_left_out=_SHOWN_LEFT_OUT,
        times=_times(report.metrics),
        quoted_run=shlex.quote(report.run),
        python_run=repr(report.run),
    )


def _majority(plan: Plan) -> str:
    """Return the class with the most training images; ties go to the first."""
    return max(plan.classes, key=lambda name: plan.classes[name][0])


def _class_rows(report: RunReport) -> list[dict[str, Any]]:
    measured = report.metrics["val"]["per_class"]
    return [
        {"name": name, "counts": counts, **measured.get(name, {"n": 0})}
        for name, counts in report.plan.classes.items()
    ]


def _weakest(report: RunReport) -> list[dict[str, Any]]:
    """Return the classes with the lowest F1; none if there are few enough to list all."""
    rows = [row for row in _class_rows(report) if row["n"]]
    if len(report.predictions.label_names) <= _SHOWN_CLASSES:
        return []
    return sorted(rows, key=lambda row: (row["f1"], row["name"]))[: _SHOWN_CLASSES // 2]


def _curves(report: RunReport) -> list[tuple[str, Chart]]:
    """Return charts of loss, accuracy and learning rates by epoch; none without epochs."""
    rows = report.history
    if not rows:
        return []
    baseline = report.metrics["majority_baseline"]
    return [
        ("Loss", _loss_chart(rows)),
        ("Accuracy", _accuracy_chart(rows, baseline)),
        ("Learning rates", _rate_chart(rows)),
    ]


def _loss_chart(rows: Sequence[EpochRow]) -> Chart:
    epochs = [row.epoch for row in rows]
    series = [
        Series("training", epochs, [row.train_loss for row in rows], _TRAIN),
        Series("validation", epochs, [row.val_loss for row in rows], _VAL),
    ]
    alt = "Training and validation loss by epoch"
    return line_chart(series, x=_EPOCHS, y=Axis("loss (nats)"), alt=alt, spans=_phases(rows))


def _accuracy_chart(rows: Sequence[EpochRow], baseline: float) -> Chart:
    epochs = [row.epoch for row in rows]
    series = [
        Series("training", epochs, [row.train_accuracy for row in rows], _TRAIN),
        Series("validation", epochs, [row.val_accuracy for row in rows], _VAL),
        Series("most frequent class", epochs, [baseline] * len(rows), _BASELINE, "dashed"),
    ]
    alt, y = "Training and validation accuracy by epoch", Axis("accuracy", Scale.PERCENT)
    return line_chart(series, x=_EPOCHS, y=y, alt=alt, spans=_phases(rows))


def _rate_chart(rows: Sequence[EpochRow]) -> Chart:
    epochs = [row.epoch for row in rows]
    series = [Series("head", epochs, [row.lr_head for row in rows], COLOURS[2])]
    backbone = [row.lr_backbone or math.nan for row in rows]  # frozen: a gap in the line
    if any(rate > 0 for rate in backbone):
        series.append(Series("last backbone stage", epochs, backbone, COLOURS[3]))
    alt, y = "Learning rates at the end of each epoch", Axis("learning rate", Scale.LOG)
    return line_chart(series, x=_EPOCHS, y=y, alt=alt, spans=_phases(rows))


def _phases(rows: Sequence[EpochRow]) -> list[tuple[float, float, str]]:
    """Return (start, end, name) of each phase, from half an epoch before to half an epoch after."""
    spans: list[tuple[float, float, str]] = []
    for row in rows:
        if spans and spans[-1][2] == row.phase:
            spans[-1] = (spans[-1][0], row.epoch + 0.5, row.phase)
        else:
            spans.append((row.epoch - 0.5, row.epoch + 0.5, row.phase))
    return spans


def _calibration(report: RunReport) -> Chart:
    bins = reliability(report.predictions.labels, report.predictions.probabilities)
    return reliability_chart(bins, alt="Accuracy against confidence in 15 bins")


def _answering(report: RunReport) -> dict[str, Any]:
    """Return a chart of accuracy by share of answered images, and the rows of its table."""
    rows = risk_coverage(report.predictions.labels, report.predictions.probabilities)
    shares = [row["share"] for row in rows]
    intervals = [row["accuracy_interval"] for row in rows]
    series = [
        Series("95 % interval", shares, [one["low"] for one in intervals], _BASELINE, "dashed"),
        Series("95 % interval", shares, [one["high"] for one in intervals], _BASELINE, "dashed"),
        Series("accuracy of the answers", shares, [row["accuracy"] for row in rows], _VAL),
    ]
    chart = line_chart(
        series,
        x=Axis("images answered, the surest first", Scale.PERCENT),
        y=Axis("accuracy", Scale.PERCENT),
        alt="Accuracy of the answers by the share of images that are answered",
    )
    listed = {min(rows, key=lambda row: abs(row["share"] - share))["n"] for share in _SHOWN_SHARES}
    return {
        "chart": replace(chart, series=chart.series[1:]),
        "rows": [row for row in rows if row["n"] in listed],
    }


def _map(report: RunReport, counts: NDArray[np.int64]) -> dict[str, Any] | None:
    if report.feature_map is None:
        return None
    names = report.predictions.label_names
    wrong = counts.sum(axis=1) + counts.sum(axis=0) - 2 * counts.diagonal()
    marks = class_marks(names, wrong)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "points": place_points(report.feature_map, marks, report.predictions),
        "marks": [*marks.values(), *([OTHER] if len(marks) < len(names) else [])],
        "explained": sum(report.feature_map.explained),
    }


def _fitted(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the classifier's metrics with a row per setting tried, best first."""
    if "classifier" not in metrics:
        return None
    classifier = metrics["classifier"]
    tried = sorted(classifier["cross_validation"]["tried"], key=lambda one: -one["accuracy"])
    rows = [
        {
            "settings": ", ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in one.items()
                if key != "accuracy"
            ),
            "accuracy": one["accuracy"],
            "chosen": {k: v for k, v in one.items() if k != "accuracy"} == classifier["settings"],
        }
        for one in tried
    ]
    rows.sort(key=lambda row: not row["chosen"])
    more = max(len(rows) - _SHOWN_SETTINGS, 0)
    return {**classifier, "rows": rows[:_SHOWN_SETTINGS], "more": more}


def _times(metrics: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Return (part, seconds, share), longest first, without the time of the page itself."""
    parts = {k: v for k, v in metrics["time"].items() if k != "report" and v >= 0.05}
    total = sum(parts.values()) or 1.0
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return [(name.replace("_", " "), value, value / total) for name, value in ordered]
