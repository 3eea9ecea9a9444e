"""The files of a comparison: the table as CSV, all figures as JSON, the page."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from transferkit.data.scan import name_of
from transferkit.files import write_json
from transferkit.intervals import LEVEL, METHOD, Estimate
from transferkit.options.compare import CompareOptions
from transferkit.recipes.comparing.candidate_runs import CandidateRun
from transferkit.recipes.comparing.comparison_folder import FIGURES, TABLE
from transferkit.recipes.comparing.comparison_page import write_comparison_page
from transferkit.recipes.comparing.rows import Comparison, ComparisonRow
from transferkit.tables import write_csv

COLUMNS = (
    "strategy", "backbone", "weights", "accuracy", "low", "high", "by_seed",
    "difference", "difference_low", "difference_high", "equals_best",
    "seconds", "trainable_parameters", "total_parameters", "megabytes", "note",
)  # fmt: skip


def write_comparison(
    comparison: Comparison, options: CompareOptions, runs: Sequence[CandidateRun]
) -> None:
    """Write compare.csv, compare.json and compare.html.

    Raises:
        OutputError: When they cannot be written.
    """
    write_csv(comparison.folder / TABLE, COLUMNS, map(table_row, comparison.rows))
    write_json(comparison.folder / FIGURES, _figures(comparison, options, runs))
    write_comparison_page(comparison, name_of(options.data), options.seeds)


def table_row(row: ComparisonRow) -> list[str]:
    """Return a row of the CSV file; unknown values are empty."""
    size = None if row.size is None else row.size / 1e6
    return [
        row.candidate.strategy,
        row.candidate.backbone,
        row.candidate.weights,
        *_interval_cells(row.accuracy),
        " ".join(f"{value:.4f}" for value in row.by_seed),
        *_interval_cells(row.difference),
        "" if row.accuracy is None else ("yes" if row.equals_best else "no"),
        "" if row.seconds is None else f"{row.seconds:.2f}",
        "" if row.trainable_parameters is None else str(row.trainable_parameters),
        "" if row.total_parameters is None else str(row.total_parameters),
        "" if size is None else f"{size:.2f}",
        row.note,
    ]


def _interval_cells(estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return ["", "", ""]
    return [f"{value:z.4f}" for value in (estimate.value, estimate.low, estimate.high)]


def _figures(
    comparison: Comparison, options: CompareOptions, runs: Sequence[CandidateRun]
) -> dict[str, Any]:
    train, val = comparison.images
    return {
        "data": str(options.data),
        "images": {"train": train, "val": val},
        "majority_baseline": comparison.baseline,
        "epochs": options.epochs,
        "seeds": list(range(options.seed, options.seed + options.seeds)),
        "budget_minutes": options.budget,
        "level": LEVEL,
        "method": METHOD,
        "advice": comparison.advice,
        "candidates": [_candidate(row) for row in comparison.rows],
        "runs": [_run(run) for run in runs],
    }


def _candidate(row: ComparisonRow) -> dict[str, Any]:
    values = asdict(row)
    chosen = values.pop("candidate")
    return {
        "strategy": chosen["strategy"],
        "backbone": chosen["backbone"],
        "weights": chosen["weights"],
        **values,
        "equals_best": row.equals_best,
    }


def _run(run: CandidateRun) -> dict[str, Any]:
    return {
        "run": run.folder.name,
        "strategy": run.candidate.strategy,
        "backbone": run.candidate.backbone,
        "weights": run.candidate.weights,
        "seed": run.seed,
        "state": str(run.state),
        "reason": run.reason,
        "accuracy": run.accuracy,
        "seconds": run.seconds,
        "epochs": [
            {"epoch": e.epoch, "val_accuracy": e.val_accuracy, "seconds": e.seconds}
            for e in run.history
        ],
    }
